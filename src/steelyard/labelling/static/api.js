// Requests. An answer is kept in this browser until the server says it is saved, so that a crash of
// either side loses nothing; its uuid makes a second sending harmless.

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options) {
  const reply = await fetch(path, options);
  const text = await reply.text();
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    content = { error: text.trim() };
  }
  if (!reply.ok) throw new ServerError(reply.status, content.error ?? content.detail ?? text);
  return content;
}

export const get = (path) => request(path);

export const post = (path, body) =>
  request(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

/** Send until the server replies; `waiting` is called before each new try. */
export async function postSurely(path, body, waiting) {
  for (let pause = 300; ; pause = Math.min(pause * 1.5, 3000)) {
    try {
      return await post(path, body);
    } catch (error) {
      if (error instanceof ServerError && error.status < 500) throw error;
      waiting();
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** A random version 4 uuid; `crypto.randomUUID` is missing where the page is not on localhost. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
