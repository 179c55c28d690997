// The form of a report to NCMEC. What is required is checked by the server, whose words are shown.

import { choice, el, labelled } from "./dom.js";

const INCIDENTS = [
  "Child Pornography (possession, manufacture, and distribution)", "Child Sex Trafficking", "Child Sex Tourism",
  "Child Sexual Molestation", "Misleading Domain Name", "Misleading Words or Digital Images on the Internet",
  "Online Enticement of Children for Sexual Acts", "Unsolicited Obscene Material Sent to a Child",
];
const CLASSES = ["A1", "A2", "B1", "B2", "Unclassified", "none"];
const LABELS = [
  "animeDrawingVirtualHentai", "potentialMeme", "viral", "possibleSelfProduction", "physicalHarm", "violenceGore",
  "bestiality", "liveStreaming", "infant", "generativeAi",
];

// What is said of one medium; it stands in the medium's tile.
export class Said {
  constructor(tile) {
    this.tile = tile;
    this.class = choice(CLASSES, "not decided");
    this.class.name = "class";
    this.labels = LABELS.map((label) => [label, el("input", { type: "checkbox" })]);
    // Only who has seen it can say so. A film is more than a look: there the reviewer says it.
    this.viewed = el("input", { type: "checkbox", disabled: true });
    this.unviewable = el("input", { type: "text", maxLength: 1000 });
    tile.onSeen = () => {
      if (this.viewed.disabled) this.viewed.checked = tile.shown.tagName === "IMG";
      this.viewed.disabled = false;
    };
    tile.element.append(
      labelled("Class", this.class), labelled("I have viewed all of it", this.viewed),
      labelled("Cannot be opened, because", this.unviewable),
      el("details", {}, el("summary", {}, "Labels"), this.labels.map(([label, box]) => labelled(label, box))),
    );
  }

  // As the server wants it; nothing of a medium that was not decided.
  value() {
    const media = this.tile.medium.number;
    const why = this.unviewable.value.trim();
    if (why) return { media, unviewable: why };
    if (!this.class.value) return null;
    const annotations = this.labels.filter(([, box]) => box.checked).map(([label]) => label);
    return { media, classification: this.class.value, annotations, viewed: this.viewed.checked };
  }
}

// The rest of the form, and what is sent.
export function form(job, saids, send) {
  const incident = choice(INCIDENTS);
  incident.name = "incident";
  const more = el("textarea", { rows: 3 });
  const escalate = el("input", { type: "checkbox" });
  const why = el("input", { type: "text", maxLength: 3000 });
  const contents = el("input", { type: "checkbox" });
  const submit = (event) => {
    event.preventDefault();
    // A report cannot be taken back.
    if (!window.confirm(`Report ${job.subject.typeId} ${job.subject.id} to NCMEC?`)) return;
    const body = { incident_type: incident.value, media: saids.map((said) => said.value()).filter(Boolean) };
    if (more.value.trim()) body.additional_info = more.value;
    if (escalate.checked) body.escalate = why.value;
    if (contents.checked) Object.assign(body, { contents: job.contents.map(key), threads: job.threads.map(key) });
    send(body);
  };
  return el("form", { name: "report", on: { submit } }, el("h3", {}, "Report to NCMEC"),
    labelled("What happened", incident), labelled("Additional information", more),
    labelled("It cannot wait", escalate), labelled("because", why),
    job.contents.length + job.threads.length > 0 ? labelled("Report the words of its contents and threads too", contents) : null,
    el("button", { type: "submit" }, "Report"));
}

function key({ id, typeId }) {
  return { id, typeId };
}
