// Tiles of media. A tile begins as words; its bytes come when they are asked for, into an element that is veiled already.
// The veil is off while a button is held, after the server wrote down that somebody looks, and never for longer than
// HOLD_MS_MAX. Whatever else happens, it is back at once; the next look is a new record.

import { bytes, call } from "./api.js";
import { button, el, labelled, say } from "./dom.js";
import { isBreak, looked } from "./wellbeing.js";

const HOLD_MS_MAX = 10_000;

// The tile that is held: one at most.
let held = null;

// Puts every veil back.
export function veil() {
  if (held) held.release();
}

for (const [target, event] of [
  [window, "blur"], [window, "pagehide"], [document, "visibilitychange"], [document, "pointercancel"],
  [document, "pointerup"],
]) target.addEventListener(event, veil);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") veil(); }, true);

export class Tile {
  constructor(job, medium) {
    this.path = `/api/v1/jobs/${job.id}/media/${medium.number}`;
    this.medium = medium;
    // Whether it was seen as it is, by this person, since the job was opened.
    this.seen = false;
    this.onSeen = () => {};
    this.url = null;
    this.left = false;
    this.veil = el("div", { class: "veil" });
    this.colour = el("input", { type: "checkbox" });
    this.play = el("input", { type: "checkbox" });
    this.sound = el("input", { type: "checkbox" });
    this.load = button("Load, blurred", () => this.fetch());
    this.hold = el("button", { type: "button", class: "hold", disabled: true, on: this.listeners() }, "Hold to look");
    this.choices = el("div", {}, labelled("in colour", this.colour));
    this.element = el("li", { class: "tile" }, el("h4", {}, `Medium ${medium.number}`), words(medium),
      el("div", { class: "frame" }, this.veil), this.load, " ", this.hold, this.choices);
    if (medium.evidence?.state !== "kept") this.load.disabled = true;
  }

  listeners() {
    const isKey = (event) => event.key === " " || event.key === "Enter";
    return {
      pointerdown: (event) => {
        if (event.button !== 0) return;
        this.hold.setPointerCapture(event.pointerId);
        this.look();
      },
      lostpointercapture: () => this.release(),
      contextmenu: (event) => event.preventDefault(),
      keydown: (event) => {
        if (!isKey(event)) return;
        event.preventDefault();
        if (!event.repeat) this.look();
      },
      keyup: (event) => { if (isKey(event)) this.release(); },
      blur: () => this.release(),
    };
  }

  async fetch() {
    if (this.url || isBreak()) return;
    this.load.disabled = true;
    try {
      const blob = await bytes(`${this.path}/content`);
      if (this.left) return;
      // Without its style sheet the page hides nothing, so it shows nothing.
      if (!getComputedStyle(this.veil).filter.includes("blur(")) throw new Error("Not shown: the page's style is missing.");
      this.show(blob);
    } catch (refused) {
      say(refused.message);
      this.load.disabled = false;
    }
  }

  show(blob) {
    const kind = blob.type.split("/")[0];
    const shown = kind === "image" ? document.createElement("img") : document.createElement("video");
    if (kind !== "image") {
      shown.muted = true;
      shown.playsInline = true;
      shown.disablePictureInPicture = true;
      this.choices.append(labelled("play while held", this.play), labelled("with sound", this.sound));
    } else {
      shown.alt = "";
      shown.draggable = false;
    }
    shown.addEventListener("error", () => say(`Medium ${this.medium.number}: the browser cannot show it.`));
    // Inside the veil before it has anything to show.
    this.veil.append(shown);
    this.url = URL.createObjectURL(blob);
    shown.src = this.url;
    this.shown = shown;
    this.hold.disabled = false;
  }

  async look() {
    if (held || !this.url || isBreak() || document.hidden) return;
    held = this;
    const look = this.now = {};
    try {
      await call("POST", `${this.path}/unblur`);
    } catch (refused) {
      if (this.now === look) this.release();
      say(`Not shown: ${refused.message}`);
      return;
    }
    // Let go meanwhile: it stays on record, and nothing is shown.
    if (this.now !== look || held !== this || document.hidden || isBreak()) return;
    this.veil.classList.toggle("colour", this.colour.checked);
    this.veil.classList.add("lifted");
    this.since = performance.now();
    this.timer = setTimeout(() => this.release(), HOLD_MS_MAX);
    if (this.shown.tagName === "VIDEO" && this.play.checked) {
      this.shown.muted = !this.sound.checked;
      this.shown.play().catch(() => {});
    }
    this.seen = true;
    this.onSeen();
  }

  release() {
    const was = this.veil.classList.contains("lifted");
    this.veil.classList.remove("lifted", "colour");
    clearTimeout(this.timer);
    this.now = null;
    if (held === this) held = null;
    if (this.shown?.tagName === "VIDEO") {
      this.shown.pause();
      this.shown.muted = true;
    }
    if (was) looked(performance.now() - this.since);
  }

  // The job is left: nothing of it stays in memory.
  leave() {
    this.left = true;
    this.release();
    this.veil.replaceChildren();
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
  }
}

// What is known of a medium, in words.
function words(medium) {
  const kept = medium.evidence;
  const lines = [`${medium.kind} in ${medium.field} of ${medium.item.typeId} ${medium.item.id}`];
  if (medium.reported) lines.push("reported");
  for (const match of medium.matches || []) {
    const far = match.distance === undefined ? "" : `, distance ${match.distance}`;
    lines.push(`matches ${match.bank_name} by ${match.signal_type}${far}`);
  }
  lines.push(...(medium.reasons || []));
  if (medium.unscreened) lines.push(`not compared: ${medium.unscreened}`);
  if (!kept) lines.push("nothing is kept of it");
  else if (kept.state === "kept") lines.push(`${kept.bytes} bytes`);
  else lines.push(`not preserved (${kept.state})${kept.trouble ? `: ${kept.trouble}` : ""}`);
  if (medium.viewed_by?.length) lines.push(`opened by ${medium.viewed_by.join(", ")}`);
  if (medium.url) lines.push(medium.url);
  return el("ul", {}, lines.map((line) => el("li", {}, line)));
}
