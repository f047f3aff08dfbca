// What node-redis hears where it must not get in, and about commands that its user must not give.
// The settings are a line of JSON on standard input; what was heard goes to standard output.
import { createInterface } from "node:readline";
import { openRedis } from "./connect.mjs";

const { commands, ...settings } = JSON.parse((await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()).value);
const once = { reconnectStrategy: false };
const connections = {
  "as it should": {},
  "without TLS": { socket: { ...once, tls: false } },
  "with a wrong CA": { ca: "stranger.pem" },
  "with the public CAs": { socket: { ...once, ca: undefined } },
  "to another name": { socket: { ...once, servername: "other.example" } },
  "as the default user": { username: undefined, password: undefined },
  "with a wrong password": { password: "wrong" },
};

async function hear(attempt) {
  try {
    await attempt();
    return "allowed";
  } catch (error) {
    return error.code ?? (/^[A-Z]+(?= )/.exec(error.message)?.[0] || error.name);
  }
}

const heard = {};
for (const [how, options] of Object.entries(connections)) {
  heard[how] = await hear(async () => (await openRedis({ ...settings, socket: once, ...options })).ping());
}
const client = await openRedis(settings);
for (const command of commands) {
  heard[command] = await hear(() => client.sendCommand(command.split(" ")));
}
process.stdout.write(JSON.stringify(heard));
process.exit();
