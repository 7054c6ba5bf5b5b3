// One run of bench_objects.py with nats.js: objects_nats_js.mjs <row> <port> <bucket> <bytes> <count> <batched>.
import { readFileSync } from "node:fs";
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import * as obj from "@nats-io/obj";

const [row, port, bucket, bytes, count, batched] = process.argv.slice(2);
const data = new Uint8Array(readFileSync(0)); // the content, from stdin
if (data.length !== Number(bytes)) throw new Error(`${data.length} bytes of content`);
const nc = await connect({ port: Number(port) });
// Off by default, and ten times as fast.
obj.setSha256Backend?.("native");
const objm = new obj.Objm(jetstream(nc, { timeout: 60_000 }));
const store = await objm.open(bucket, { check: true, allowBatched: batched === "1" });
const cpu = process.cpuUsage(), wall = performance.now();
// In pieces: putBlob moves what is left of the content for each part, which takes ten times as long.
const pieces = () => {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= data.length) return controller.close();
      controller.enqueue(data.subarray(at, at += 128 * 1024));
    },
  });
};
let got;
for (let i = 0; i < Number(count); i++) {
  if (row === "put") {
    await store.put({ name: `new-${i}` }, pieces());
    continue;
  }
  const object = await store.get("blob"), parts = [];
  for await (const part of object.data) parts.push(part);
  const error = await object.error;
  if (error) throw error;
  got = Buffer.concat(parts);
}
const used = process.cpuUsage(cpu);
console.log(JSON.stringify({ wall: (performance.now() - wall) / 1000, cpu: (used.user + used.system) / 1e6 }));
if (got && Buffer.compare(Buffer.from(got), Buffer.from(data))) throw new Error("another content");
await nc.close();
