// The log of requests that the page makes.

export function logRequest({ method, url, headers = {}, body = "" }) {
  return { done(status) {} };
}
