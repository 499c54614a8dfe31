/** Calls to the service; the API key lives in this tab's session storage and in headers only. */

import { byId } from "./dom.js";

const STORED = "gatecast.key";

/** An answer that is no success; its message can be shown. */
export class ProblemError extends Error {
  /**
   * @param {string} title
   * @param {string} detail
   * @param {number} status
   * @param {{pointer: string, detail: string}[]} [errors]
   */
  constructor(title, detail, status, errors = []) {
    super(detail || title);
    this.title = title;
    this.status = status;
    this.errors = errors;
  }
}

/**
 * Call the service and return its JSON; asks for a key where one is needed.
 * @param {string} path relative to the page
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
export async function callJson(path, options) {
  return (await call(path, options)).json();
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
export async function call(path, options = {}) {
  const key = sessionStorage.getItem(STORED);
  const answer = await send(path, options, key);
  if (answer.ok) return answer;
  if (answer.status !== 401) throw await toProblem(answer);
  // A late refusal of an older key says nothing about the one given meanwhile.
  if (sessionStorage.getItem(STORED) === key) await askForKey(key ? "That key is not known." : "");
  return call(path, options);
}

/**
 * @param {string} modelName
 * @param {object} request
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export function forecast(modelName, request, signal) {
  return callJson(`v1/models/${encodeURIComponent(modelName)}/forecast`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
}

/** Whether this tab holds a key. */
export function hasKey() {
  return Boolean(sessionStorage.getItem(STORED));
}

/**
 * @param {string} path
 * @param {RequestInit} options
 * @param {string|null} key
 */
async function send(path, options, key) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  try {
    return await fetch(path, { ...options, headers, credentials: "omit" });
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    throw new ProblemError("No answer", "The service does not answer. Is it still running?", 0);
  }
}

/** @param {Response} answer */
async function toProblem(answer) {
  try {
    const problem = await answer.json();
    return new ProblemError(problem.title, problem.detail ?? "", answer.status, problem.errors);
  } catch {
    return new ProblemError("Error", `The service answered with status ${answer.status}.`, answer.status);
  }
}

/** @type {Promise<void>|null} */
let asking = null;

/**
 * Ask once, however many calls were refused.
 * @param {string} reason
 */
function askForKey(reason) {
  asking ??= openKeyDialog(reason).finally(() => {
    asking = null;
  });
  return asking;
}

/**
 * @param {string} reason
 * @returns {Promise<void>}
 */
function openKeyDialog(reason) {
  const dialog = byId("key-dialog");
  const input = byId("key");
  byId("key-error").textContent = reason;
  input.value = "";
  dialog.returnValue = ""; // Escape may leave the one of the time before
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.addEventListener(
      "close",
      () => {
        const key = input.value.trim();
        input.value = "";
        if (dialog.returnValue !== "use" || !key) {
          reject(new ProblemError("An API key is needed", "Without an API key, nothing can be shown.", 401));
          return;
        }
        sessionStorage.setItem(STORED, key);
        resolve();
      },
      { once: true },
    );
  });
}
