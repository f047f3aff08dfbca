// Clients that find Redis's master by Sentinel and are busy: node-redis and ioredis write, Socket.IO's servers send each other events.
// The settings are a line of JSON on standard input. Says each write that was acknowledged, each event that came over and each
// error, as a line of JSON with the kind of client; ends when standard input does.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { openIoredis, openNodeRedis } from "./sentinel.mjs";
import { Server, connect } from "./servers.mjs";

const PAUSE_MS = 100;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { tokens, socketio, adapters } = JSON.parse((await lines.next()).value);
let over = false;
const say = (kind, error) => process.stdout.write(`${JSON.stringify({ kind, error })}\n`);

async function write(kind, set) {
  for (;; await pause(PAUSE_MS)) {
    await set(`refresh_token:${kind} of a game day`).then(() => say(kind), (error) => say(kind, error.message));
  }
}

async function send(adapter) {
  const [sender, receiver] = ["a", "b"].map((name) => new Server(name, { adapter, namespaces: ["/"], ...socketio }));
  const client = await connect(await receiver.port, "/", adapter);
  client.on("gameday", () => say(adapter));
  await sender.port;
  for (; !over; await pause(PAUSE_MS)) {
    await sender.order("emit", "/", "gameday", {});
  }
  return Promise.all([sender.stop(), receiver.stop()]);
}

const nodeRedis = await openNodeRedis(tokens);
const ioredis = openIoredis(tokens);
write("node-redis", (key) => nodeRedis.set(key, "x", { EX: 60 }));
write("ioredis", (key) => ioredis.set(key, "x", "EX", 60));
const sent = adapters.map(send);

assert.ok((await lines.next()).done);
over = true;
const codes = (await Promise.all(sent)).flat();
assert.ok(codes.every((code) => code === 0), `servers ended with ${codes}`);
process.exit();
