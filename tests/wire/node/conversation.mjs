// A conversation over the Messaging API in JavaScript: REST with fetch, the socket with
// the ws package. It knows nothing of this project, so it shows that the sandbox speaks
// the protocol as others understand it.

import WebSocket from "ws";

const base = process.env.BASE_URL;
const json = { "Content-Type": "application/json" };

async function post(path, headers, body) {
  const answer = await fetch(base + path, {
    method: "POST",
    headers: { ...json, ...headers },
    body: JSON.stringify(body),
  });
  if (!answer.ok) {
    throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  }
  return answer.json();
}

const { access_token } = await post(
  "/api/v1/access-token",
  { "X-Token": process.env.CONNECTOR_TOKEN, "X-Host": process.env.HOST },
  {},
);
const { session_id } = await post(
  "/api/v1/sessions",
  { Authorization: `Bearer ${access_token}` },
  { streaming_enabled: false, platform: "web" },
);

const query = new URLSearchParams({ session_id, access_token });
const socket = new WebSocket(`${base.replace(/^http/, "ws")}/ws?${query}`);
const seen = new Set();
const questions = ["Do you have a table for two tonight?"];
let replayed = false;

const send = (type, payload = {}) =>
  socket.send(JSON.stringify({ type: `EVENT_TYPE_${type}`, payload }));

function handle(event) {
  if (event.id && seen.has(event.id)) return;
  seen.add(event.id);
  switch (event.type.replace("EVENT_TYPE_", "")) {
    case "POLY_AGENT_JOINED":
      console.log(`joined: ${event.payload.agent_name}`);
      break;
    case "USER_MESSAGE":
      console.log(`user: ${event.payload.text}`);
      break;
    case "POLY_AGENT_MESSAGE":
      console.log(`agent: ${event.payload.text}`);
      if (questions.length) send("USER_MESSAGE", { text: questions.shift() });
      else send("USER_END_SESSION");
      break;
    case "HEARTBEAT":
      console.log("heartbeat");
      break;
    case "SESSION_END":
      console.log(`ended: ${event.payload.reason}`);
      socket.close(1000);
      break;
  }
}

socket.on("message", (data) => {
  const frame = JSON.parse(data);
  const history = frame.type === "EVENT_TYPE_EVENT_BATCH";
  const events = history ? frame.payload.events : [frame];
  events.forEach(handle);
  if (history && !replayed) {
    replayed = true;
    send("HEARTBEAT");
    if (!events.some((event) => event.type === "EVENT_TYPE_POLY_AGENT_JOINED")) {
      send("REQUEST_POLY_AGENT_JOIN");
    }
  }
});
socket.on("close", (code) => console.log(`closed: ${code}`));
socket.on("error", (error) => {
  console.error(error.message);
  process.exitCode = 1;
});
