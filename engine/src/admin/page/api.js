// Calls the server. The word that proves a change is ours is kept in memory alone; nothing is ever stored.

let csrf = "";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(method, path, body) {
  const headers = { "x-csrf-token": csrf };
  if (body !== undefined) headers["content-type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(path, {
    method, headers, body: sent, cache: "no-store", credentials: "same-origin", redirect: "error",
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, told.message || `The server answered ${answer.status}.`);
}

export async function call(method, path, body) {
  const answer = await ask(method, path, body);
  return answer.status === 204 ? null : answer.json();
}

// The bytes of a medium. The server writes down who asks for them.
export async function bytes(path) {
  return (await ask("GET", path)).blob();
}

// All entries of a list that comes in pages.
export async function pages(path) {
  const all = [];
  let after = 0;
  do {
    const page = await call("GET", `${path}?limit=1000&after=${after}`);
    all.push(...page.entries);
    after = page.next;
  } while (after !== undefined && after !== null);
  return all;
}

export async function login(name, password) {
  const told = await call("POST", "/api/v1/login", { name, password });
  csrf = told.csrf;
  return told;
}

export async function session() {
  const told = await call("GET", "/api/v1/session");
  csrf = told.csrf || "";
  return told;
}
