/** Names, payloads and errors that would harm a page which took them for markup, or an address which took them as they are. */
export const evil = [
  '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '\u202Eright to left', 'nul \u0000 here', '👩‍👩‍👧‍👦 ﷽', 'a/b?c#d%2Fe', 'lone \uD800', '../..', 'x'.repeat(90), '{{constructor}}', 'javascript:alert(1)'
]
