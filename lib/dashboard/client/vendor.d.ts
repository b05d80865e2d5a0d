/** cronstrue, of which the build keeps a copy: users install nothing more. */
declare const cronstrue: typeof import('cronstrue')
export default cronstrue
