// The unfinished uploads of this browser: they can be continued after a reload of the page.

import { UPLOADS, stored } from "./access.js";

let owner = ""; // the principal, without access control empty

const all = () => stored((storage) => JSON.parse(storage.getItem(UPLOADS))) ?? [];
const save = (found) =>
  stored((storage) =>
    found.length ? storage.setItem(UPLOADS, JSON.stringify(found)) : storage.removeItem(UPLOADS),
  );

export const pending = () => all().filter((each) => each.principal === owner);

/** Begin with the uploads of a principal, and remove those of others. */
export function open(principal, onchange) {
  owner = principal;
  if (all().length) save(pending());
  addEventListener("storage", ({ key }) => [UPLOADS, null].includes(key) && onchange());
}

export function keep({ name, size, type, lastModified }, url) {
  save([...all(), { name, size, type, lastModified, url, principal: owner }]);
}

export const drop = (url) => save(all().filter((each) => each.url !== url));

// Two tabs that send the same upload would interrupt each other, as the newest request takes
// precedence. Browsers have locks on https:// and on this machine only.
const lockOf = (url) => `${location.pathname}${url}`;

/** Take the lock of an upload until a promise settles; return false if another tab has it. */
export const claim = (url, end) =>
  new Promise((resolve) => {
    if (!navigator.locks) return resolve(true);
    navigator.locks.request(lockOf(url), { ifAvailable: true }, (lock) => {
      resolve(Boolean(lock));
      return lock && end;
    });
  });

/** Return whether a tab sends an upload now. */
export async function isClaimed(url) {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  return held.some((each) => each.name === lockOf(url));
}
