// The page: logging in, queues, and the next job of one.

import { call, login, session } from "./api.js";
import { button, el, labelled, say, show } from "./dom.js";
import { leave, work } from "./job.js";
import { veil } from "./media.js";
import { begin } from "./wellbeing.js";

const at = (id) => document.getElementById(id);

function askWho() {
  leave();
  at("who").textContent = "";
  at("logout").hidden = true;
  const name = el("input", { type: "text", name: "name", autocomplete: "username", required: true });
  const password = el("input", { type: "password", name: "password", autocomplete: "off", required: true });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await enter(await login(name.value, password.value));
    } catch (refused) {
      say(refused.message);
    } finally {
      password.value = "";
    }
  };
  show(el("form", { name: "login", on: { submit } }, labelled("Name", name), labelled("Password", password),
    el("button", { type: "submit" }, "Log in")));
  name.focus();
}

async function enter(person) {
  say("");
  at("who").textContent = person.display_name || person.name;
  at("logout").hidden = false;
  await begin(veil);
  await queues();
}

async function queues() {
  leave();
  const rows = (await call("GET", "/api/v1/queues")).map((queue) => el("tr", {},
    el("th", {}, queue.name), el("td", {}, `${queue.jobs - queue.leased} wait, ${queue.leased} lent`),
    el("td", {}, queue.child_safety ? "child safety" : ""),
    el("td", {}, button(`Next job of ${queue.name}`, () => next(queue.name)))));
  show(el("h2", {}, "Queues"), rows.length ? el("table", {}, rows) : el("p", {}, "Nothing waits."),
    button("Look again", () => refresh()));
}

async function refresh() {
  try {
    await queues();
  } catch (refused) {
    say(refused.message);
    if (refused.status === 401) askWho();
  }
}

async function next(queue) {
  try {
    const job = await call("POST", `/api/v1/queues/${encodeURIComponent(queue)}/next`, {});
    if (job) await work(job, refresh);
    else say(`Nothing waits in ${queue}.`);
  } catch (refused) {
    say(refused.message);
  }
}

at("logout").addEventListener("click", async () => {
  leave();
  try {
    await call("POST", "/api/v1/logout");
  } catch (refused) {
    say(refused.message);
  }
  askWho();
});
window.addEventListener("pagehide", leave);

try {
  const told = await session();
  if (told.csrf) await enter(told);
  else askWho();
} catch {
  askWho();
}
