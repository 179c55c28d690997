// Makes elements. Words from outside become text nodes and nothing else: no markup, no links, no sources.

const PROPERTIES = ["type", "value", "name", "checked", "disabled", "required", "rows", "maxLength", "autocomplete"];

// An element with these properties, `on` its listeners, and children: elements or words.
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (PROPERTIES.includes(name)) made[name] = value;
    else throw new Error(`no element here has '${name}'`);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function button(words, act) {
  return el("button", { type: "button", on: { click: act } }, words);
}

export function labelled(words, control) {
  const beside = control.type === "checkbox";
  return el("label", { class: beside ? "beside" : "" }, beside ? [control, ` ${words}`] : [`${words} `, control]);
}

export function choice(options, first) {
  const select = el("select");
  if (first !== undefined) select.append(el("option", { value: "" }, first));
  for (const option of options) select.append(el("option", { value: option }, option));
  return select;
}

export function say(words) {
  document.getElementById("said").textContent = words;
}

export function show(...children) {
  document.getElementById("main").replaceChildren(...children.filter(Boolean));
}

export function time(ms) {
  return new Date(ms).toISOString().replace("T", " ").slice(0, 19);
}
