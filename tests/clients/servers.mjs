// Servers of Socket.IO, each a process that takes orders, and their clients.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { io } from "socket.io-client";

export async function until(what, condition, action = () => {}) {
  for (const end = Date.now() + 120_000; !(await condition()); await pause(20)) {
    assert.ok(Date.now() < end, `not seen in 120 s: ${what}`);
    await action();
  }
}

export class Server {
  #asked = new Map();

  constructor(name, settings) {
    const command = settings.adapter === "python" ? ["python3", "server.py"] : [process.execPath, "server.mjs"];
    this.process = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
    this.process.stdin.write(`${JSON.stringify({ name, ...settings })}\n`);
    this.ended = new Promise((resolve) => this.process.on("exit", resolve));
    this.ended.then((code) => this.#asked.forEach(({ reject }) => reject(new Error(`server ${name} ended: ${code}`))));
    this.port = new Promise((resolve, reject) => {
      this.#asked.set(undefined, { resolve: (_, { port }) => resolve(port), reject });
    });
    createInterface({ input: this.process.stdout }).on("line", (line) => {
      const { id, answer, error, port } = JSON.parse(line);
      const { resolve, reject } = this.#asked.get(id);
      this.#asked.delete(id);
      error ? reject(new Error(error)) : resolve(answer, { port });
    });
  }

  order(...order) {
    return new Promise((resolve, reject) => {
      const id = (this.count = (this.count ?? 0) + 1);
      this.#asked.set(id, { resolve, reject });
      this.process.stdin.write(`${JSON.stringify([id, ...order])}\n`);
    });
  }

  stop() {
    this.process.stdin.end();
    return this.ended;
  }
}

export async function connect(port, namespace, name) {
  const socket = io(`http://127.0.0.1:${port}${namespace}`, {
    transports: ["websocket"], forceNew: true, reconnectionDelay: 50, randomizationFactor: 0,
  });
  const seen = [];
  socket.onAny((event) => seen.push(event));
  socket.on("question", (reply) => reply(name));
  await until(`${name} client connects in ${namespace}`, () => socket.connected);
  return Object.assign(socket, { saw: (event) => seen.includes(event) });
}
