// A job: words first, media below them, and what is done with it. The lease is kept while somebody uses the page.

import { call, pages } from "./api.js";
import { button, el, labelled, say, show, time } from "./dom.js";
import { Tile, veil } from "./media.js";
import { Said, form } from "./report.js";

const EXTEND_MS = 60_000;
// Who has not touched the page for so long is not there: others may have the job when its lease ends.
const AWAY_MS = 5 * 60_000;

let used = Date.now();
for (const event of ["pointerdown", "keydown", "scroll"]) {
  document.addEventListener(event, () => { used = Date.now(); }, { passive: true });
}

// Items whose words are shown at most; media of more may be listed.
const ITEMS_MAX = 50;

let open = null;

// Leaves the job that is open, if one is.
export function leave() {
  if (!open) return;
  clearInterval(open.timer);
  open.tiles.forEach((tile) => tile.leave());
  open = null;
}

// Shows a job that was just lent; `done` is called when it is left.
export async function work(job, done) {
  leave();
  const at = `/api/v1/jobs/${job.id}`;
  const [whole, media, comments, hits] =
    await Promise.all([call("GET", at), pages(`${at}/media`), pages(`${at}/comments`), pages(`${at}/hits`)]);
  const items = whole.item ? [item(whole.item)] : await Promise.all(around(whole, media).map(fetched));
  const reports = await Promise.all((whole.reports || []).map((id) => report(id)));
  const tiles = media.map((medium) => new Tile(job, medium));
  const timer = setInterval(() => extend(at, job), EXTEND_MS);
  open = { tiles, timer };
  const act = deeds(at, job, done);
  const saids = whole.kind === "ncmec" ? tiles.map((tile) => new Said(tile)) : [];
  say("");
  show(
    el("h2", {}, `${whole.kind === "ncmec" ? "NCMEC job" : "Review job"} ${job.id}`),
    facts(whole), ...items, ...reports, list("Hits", hits.map(hit)), remarks(at, comments),
    media.length ? el("h3", {}, "Media") : null,
    media.length ? el("p", {}, "Nothing is loaded until you ask. Opening and looking are recorded with your name.") : null,
    el("ul", { class: "tiles" }, tiles.map((tile) => tile.element)),
    whole.kind === "ncmec" ? form(whole, saids, (body) => act("decision", { decision: "report", ...body })) : null,
    ways(act, whole.kind === "ncmec"),
  );
}

async function extend(at, job) {
  if (Date.now() - used > AWAY_MS) return;
  try {
    await call("POST", `${at}/extend`, { lease: job.lease.token });
  } catch (refused) {
    veil();
    say(`The job may no longer be yours: ${refused.message}`);
  }
}

// Does something with the job, and leaves it unless the server refuses.
function deeds(at, job, done) {
  return async (what, body) => {
    veil();
    const more = what === "decision" ? { revision: job.revision } : {};
    try {
      await call("POST", `${at}/${what}`, { lease: job.lease.token, ...more, ...body });
    } catch (refused) {
      say(refused.message);
      return;
    }
    leave();
    done();
  };
}

function ways(act, isNcmec) {
  const why = el("input", { type: "text" });
  const queue = el("input", { type: "text" });
  const hooks = el("input", { type: "text" });
  const reason = () => (why.value.trim() ? { reason: why.value } : {});
  const webhooks = () => hooks.value.split(",").map((name) => name.trim()).filter(Boolean);
  return el("section", {}, el("h3", {}, "Otherwise"), labelled("Reason", why),
    button("Ignore", () => act("decision", { decision: "ignore", ...reason() })), " ",
    isNcmec ? null : button("To NCMEC, with all of its user", () => act("ncmec", {})), " ",
    button("Skip", () => act("skip", {})), " ", button("Give back", () => act("release", {})),
    labelled("Queue", queue), button("Move", () => act("move", { queue: queue.value })),
    labelled("Webhooks to tell, with commas", hooks),
    button("Act", () => act("decision", { decision: "act", webhooks: webhooks(), ...reason() })));
}

function list(title, lines) {
  if (!lines.length) return null;
  return el("section", {}, el("h3", {}, title), el("ul", {}, lines.map((line) => el("li", {}, line))));
}

function facts(job) {
  const lines = [
    `About ${job.subject.typeId} ${job.subject.id}, in queue ${job.queue} since ${time(job.enqueued_ms)} UTC`,
    ...job.reasons.map((reason) => `${reason.words}${reason.rule ? ` (rule ${reason.rule})` : ""}`),
  ];
  if (job.trouble) lines.push(`Trouble: ${job.trouble}`);
  if (job.media_truncated || job.listed_truncated) lines.push("There is more than is listed here.");
  return list("Why it is here", lines);
}

function item(found) {
  const by = found.creator ? `by ${found.creator.typeId} ${found.creator.id}` : "nobody knows by whom";
  return el("section", {}, el("h3", {}, `What ${found.typeId} ${found.id} says, ${by}`),
    el("pre", {}, JSON.stringify(found.data || {}, null, 2)));
}

// The items whose words belong to a user's job: the user, what is reported, and what its media hang on.
function around(job, media) {
  const keys = [job.subject, ...job.contents, ...media.filter((medium) => medium.reported).map((medium) => medium.item)];
  const by = new Map(keys.map(({ id, typeId }) => [JSON.stringify([typeId, id]), { id, typeId }]));
  return [...by.values()].slice(0, ITEMS_MAX);
}

async function fetched({ id, typeId }) {
  try {
    const asked = new URLSearchParams({ typeId, id });
    return item(await call("GET", `/api/v1/items?${asked}`));
  } catch (refused) {
    // Of a user the platform may have sent nothing.
    return refused.status === 404 ? null : el("p", {}, `${typeId} ${id}: ${refused.message}`);
  }
}

async function report(id) {
  let said;
  try {
    said = JSON.stringify(await call("GET", `/api/v1/reports/${encodeURIComponent(id)}`), null, 2);
  } catch (refused) {
    said = `${id}: ${refused.message}`;
  }
  return el("section", {}, el("h3", {}, "A report by a user"), el("pre", {}, said));
}

function hit(hit) {
  const matches = hit.matches.map((match) =>
    `${match.bank_name}${match.distance === undefined ? "" : ` at distance ${match.distance}`}`);
  return `${time(hit.received_ms)} UTC, ${hit.signal_type}: ${matches.join(", ")}`;
}

function remarks(at, comments) {
  const lines = el("ul", {}, comments.map(remark));
  const text = el("textarea", { rows: 2 });
  const add = async () => {
    try {
      lines.append(remark(await call("POST", `${at}/comments`, { text: text.value })));
      text.value = "";
    } catch (refused) {
      say(refused.message);
    }
  };
  return el("section", {}, el("h3", {}, "Comments"), lines, labelled("Yours", text), button("Add", add));
}

function remark(comment) {
  return el("li", {}, `${time(comment.at_ms)} UTC, ${comment.reviewer}: ${comment.text}`);
}
