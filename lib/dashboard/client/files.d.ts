/** The files of the page by their names: scripts/dashboard.js makes this module of what is in this folder. */
declare const files: Readonly<Record<string, string>>
export default files
