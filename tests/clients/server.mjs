// A Socket.IO server that takes orders: a line of JSON on standard input, and one for each answer.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Server } from "socket.io";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

const { name, adapter, namespaces, ...redis } = JSON.parse((await lines.next()).value);
const { adapters, openIoredis, openRedis } = await import(redis.sentinels ? "./sentinel.mjs" : "./connect.mjs");
const client = await (openIoredis ?? openRedis)({ ...redis, pingInterval: 200 }); // so that +ping is used while the test lasts
const http = createServer();
const io = new Server(http, {
  adapter: await adapters[adapter](client),
  transports: ["websocket"],
  connectionStateRecovery: adapter === "streams" ? { maxDisconnectionDuration: 120_000 } : undefined,
});

const heard = [];
for (const namespace of namespaces) {
  io.of(namespace).on("note", (text, reply) => {
    heard.push(`${namespace} ${text}`);
    reply?.(`${name} heard ${text}`);
  });
}

const orders = {
  emit: (of, event, { to = [], except = [] }) => of.to(to).except(except).emit(event),
  ask: (of, event, { to = [] }) => of.to(to).timeout(60_000).emitWithAck(event),
  join: (of, id, room) => of.in(id).socketsJoin(room),
  leave: (of, id, room) => of.in(id).socketsLeave(room),
  disconnect: (of, id) => of.in(id).disconnectSockets(),
  sockets: async (of) => (await of.fetchSockets()).map((socket) => socket.id),
  tell: (of, text) => of.serverSideEmit("note", text),
  tellAndAsk: (of, text) => of.serverSideEmitWithAck("note", text),
  heard: () => heard,
};

await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
say({ port: http.address().port });
for await (const line of lines) {
  const [id, order, namespace, ...details] = JSON.parse(line);
  // Not awaited: an answer may take until another order is done.
  Promise.resolve(orders[order](io.of(namespace), ...details)).then(
    (answer) => say({ id, answer: answer instanceof Object ? answer : null }),
    (error) => say({ id, error: String(error) }),
  );
}
await io.close();
await client.quit();
process.exit();
