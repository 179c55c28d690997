// Counts what a reviewer has looked at, and asks them to stop for a while. Nothing is stored: how often they looked
// today is the server's to say.

import { call } from "./api.js";
import { el } from "./dom.js";

// Looks, and minutes of work, between two breaks.
const LOOKS_MAX = 25;
const WORK_MS_MAX = 45 * 60_000;
const BREAK_MS = 5 * 60_000;
const LATER_MS = 5 * 60_000;

const all = { looks: 0, ms: 0, today: null };
let looks = 0;
let since = Date.now();
let postponedUntil = 0;
let postponed = false;
let breakUntil = 0;
let running = false;
let onBreak = () => {};

const at = (id) => document.getElementById(id);

// Whether the page is covered.
export function isBreak() {
  return at("break").open;
}

// Somebody has looked at a medium for so long.
export function looked(ms) {
  all.looks += 1;
  all.ms += ms;
  if (all.today) all.today.unblurs += 1;
  looks += 1;
  tell();
  check();
}

// Begins for who has logged in; what hides everything is called before a break.
export async function begin(hide) {
  onBreak = hide;
  since = Date.now();
  looks = 0;
  all.today = await call("GET", "/api/v1/session/exposure");
  tell();
  if (running) return;
  running = true;
  at("break").addEventListener("cancel", (event) => event.preventDefault());
  at("break-take").addEventListener("click", () => { breakUntil = Date.now() + BREAK_MS; check(); });
  at("break-later").addEventListener("click", () => {
    postponed = true;
    postponedUntil = Date.now() + LATER_MS;
    uncover();
  });
  setInterval(check, 1000);
}

function tell() {
  const day = all.today ? `Today: ${all.today.complete ? "" : "at least "}${all.today.unblurs} looks. ` : "";
  at("exposure").textContent =
    `${day}Since this page was opened: ${all.looks} looks, ${Math.round(all.ms / 1000)} seconds.`;
}

function check() {
  const now = Date.now();
  if (breakUntil) return rest(now);
  if (isBreak() || now < postponedUntil) return;
  if (looks < LOOKS_MAX && now - since < WORK_MS_MAX) return;
  onBreak();
  document.body.classList.add("covered");
  at("break-words").textContent =
    `You have looked at media ${looks} times in ${Math.round((now - since) / 60_000)} minutes.`;
  at("break-left").textContent = "";
  at("break-take").hidden = false;
  at("break-later").hidden = postponed;
  if (!isBreak()) at("break").showModal();
}

function rest(now) {
  const left = Math.ceil((breakUntil - now) / 1000);
  at("break-take").hidden = at("break-later").hidden = left > 0;
  if (left > 0) {
    at("break-left").replaceChildren(el("strong", {}, `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`));
    return;
  }
  breakUntil = postponedUntil = looks = 0;
  postponed = false;
  since = now;
  uncover();
}

function uncover() {
  document.body.classList.remove("covered");
  at("break").close();
}
