// The credential: an API key kept for this tab only, exchanged for short-lived tokens.

import { HearthError } from "/hearth.js";

const KEY = "hearth.api_key";
const REFRESH_BEFORE_MS = 90_000;

let token = "";
let expiresAt = 0;

/** The API key of this tab, or null. */
export const apiKey = () => sessionStorage.getItem(KEY);

/** Signs in: the key is kept only if it is good. Throws HearthError (UNAUTHENTICATED) or what the network says. */
export async function signIn(key) {
  await exchange(key);
  sessionStorage.setItem(KEY, key);
}

/** Forgets everything. */
export function signOut() {
  sessionStorage.removeItem(KEY);
  token = "";
  expiresAt = 0;
}

/** A token that is good for a while; a fresh one with `refresh`. */
export async function currentToken({ refresh = false } = {}) {
  if (refresh || Date.now() > expiresAt - REFRESH_BEFORE_MS) await exchange(apiKey());
  return token;
}

async function exchange(key) {
  const answer = await fetch("/hearth.user.v1.TokenService/IssueToken", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ api_key: key }),
    cache: "no-store",
  });
  if (answer.status === 400 || answer.status === 401 || answer.status === 403) {
    throw new HearthError({ code: "UNAUTHENTICATED", reason: "API_KEY_INVALID", message: "This key is not known here." });
  }
  if (!answer.ok) {
    throw new HearthError({ code: "UNAVAILABLE", message: `Hearth does not answer (${answer.status}). Try again.` });
  }
  const issued = await answer.json();
  token = issued.token;
  expiresAt = Date.parse(issued.expire_time ?? issued.expireTime);
}
