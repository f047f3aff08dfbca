// Two servers of one kind tell each other, over Redis, all that their adapter can; clients of both look on.
// The settings are a line of JSON on standard input. Ends with 0 where everything arrived where it should and nowhere else.
import assert from "node:assert/strict";
import net from "node:net";
import { createInterface } from "node:readline";
import { Server, connect, until } from "./servers.mjs";

const settings = JSON.parse((await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()).value);
const python = settings.adapter === "python";

async function exchange(a, b, namespace) {
  const first = await connect(await a.port, namespace, "first");
  const second = await connect(await b.port, namespace, "second");
  const emit = (event, options = {}) => a.order("emit", namespace, event, options);

  // What is published before the other server has subscribed is lost: again until it arrives.
  await until("broadcasts, both ways", () => second.saw("of a") && first.saw("of b"), () =>
    Promise.all([emit("of a"), b.order("emit", namespace, "of b", {})]));

  await a.order("join", namespace, second.id, "blue");
  await until("event in a room", () => second.saw("in blue"), () => emit("in blue", { to: "blue" }));
  await emit("but for second", { except: second.id });
  await a.order("leave", namespace, second.id, "blue");
  await emit("in blue, later", { to: "blue" });
  await emit("end");
  await until("last broadcast", () => first.saw("end") && second.saw("end"));
  assert.ok(first.saw("but for second") && !second.saw("but for second"), "except");
  assert.ok(!first.saw("in blue") && !second.saw("in blue, later"), "only those in the room");

  if (python) {
    assert.deepEqual(await a.order("ask", namespace, "question", { to: second.id }), ["second"]);
  } else {
    assert.deepEqual((await a.order("ask", namespace, "question", {})).sort(), ["first", "second"]);
    assert.deepEqual(await a.order("ask", namespace, "question", { to: second.id }), ["second"]);
    assert.deepEqual((await a.order("sockets", namespace)).sort(), [first.id, second.id].sort());
    await a.order("tell", namespace, "news");
    await until("note of a server", async () => (await b.order("heard", namespace)).includes(`${namespace} news`));
    assert.deepEqual(await a.order("tellAndAsk", namespace, "more"), ["b heard more"]);
  }

  await a.order("disconnect", namespace, second.id);
  await until("client of the other server is sent away", () => second.disconnected);
  first.close();
}

// A load balancer in front of both: the client has one address, and its connection may be cut.
async function recovery(a, b, namespace) {
  let target = await a.port;
  const open = new Set();
  const balancer = net.createServer((client) => {
    const server = target && net.connect(target, "127.0.0.1");
    for (const [from, to] of [[client, server], [server, client]]) {
      from && open.add(from.on("error", () => {}).on("close", () => to && to.destroy()));
    }
    server ? client.pipe(server).pipe(client) : client.destroy();
  });
  await new Promise((resolve) => balancer.listen(0, "127.0.0.1", resolve));
  const socket = await connect(balancer.address().port, namespace, "roaming");
  const { id } = socket;
  await b.order("join", namespace, id, "blue");
  // A client without an event has no offset to come back with.
  await until("event before the cut", () => socket.saw("before"), () => b.order("emit", namespace, "before", { to: "blue" }));

  target = null;
  open.forEach((end) => end.destroy());
  await until("server notices the cut", async () => !(await a.order("sockets", namespace)).includes(id));
  await b.order("emit", namespace, "missed", { to: "blue" });
  target = await b.port;
  await until("client is back", () => socket.connected);
  assert.ok(socket.recovered, "recovered");
  assert.equal(socket.id, id);
  await until("missed event", () => socket.saw("missed"));
  await a.order("emit", namespace, "after", { to: "blue" });
  await until("event in its room", () => socket.saw("after"));
  socket.close();
  balancer.close();
}

const [a, b] = [new Server("a", settings), new Server("b", settings)];
await Promise.all([a.port, b.port]);
for (const test of settings.adapter === "streams" ? [exchange, recovery] : [exchange]) {
  await Promise.all(settings.namespaces.map((namespace) => test(a, b, namespace)));
}
assert.deepEqual(await Promise.all([a.stop(), b.stop()]), [0, 0]);
process.exit();
