// A peer for the cross tests, on the official packages. Protocol: see tests/lab/peers.py.
import { createReadStream, createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { Readable, Writable } from "node:stream";
import { connect, headers } from "@nats-io/transport-node";
import { Kvm, KvWatchInclude } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { ServiceError, Svcm } from "@nats-io/services";

const [url] = process.argv.slice(2);
const nc = await connect({ servers: url });
const kvm = new Kvm(nc);
const objm = new Objm(nc);
const svcm = new Svcm(nc);
const services = new Map();

const text = (bytes) => new TextDecoder().decode(bytes);
const bucket = (a) => kvm.open(a.bucket);
const store = (a) => objm.open(a.bucket);
const entry = (e) => e && {
  key: e.key, value: text(e.value), revision: e.revision, operation: e.operation,
  created: e.created.toISOString(), delta: e.delta,
};
// Without what is undefined: it would stand for a default of its own.
const given = (o) => Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined));
const pick = (o) => o && given({
  name: o.name, description: o.description, bucket: o.bucket, nuid: o.nuid, size: o.size,
  chunks: o.chunks, digest: o.digest, deleted: o.deleted ?? false, mtime: o.mtime,
  metadata: o.metadata, options: o.options,
  headers: o.headers && Object.fromEntries([...o.headers].map(([k, v]) => [k, v])),
});

async function all(iterator) {
  const found = [];
  for await (const item of iterator) found.push(item);
  return found;
}

const ops = {
  ready: () => process.version,

  "kv.create_bucket": async ({ bucket, ...options }) => {
    await kvm.create(bucket, given({
      history: options.history, ttl: options.ttl_ms, markerTTL: options.marker_ttl_ms,
      description: options.description, maxValueSize: options.max_value_size,
      max_bytes: options.max_bytes, storage: options.storage, republish: options.republish,
      compression: options.compression, metadata: options.metadata,
      mirror: options.mirror, sources: options.sources,
    }));
  },
  "kv.list": async () => (await all(kvm.list())).map((s) => s.bucket),
  "kv.delete_bucket": async (a) => void await (await bucket(a)).destroy(),
  "kv.put": async (a) => (await bucket(a)).put(a.key, a.value),
  "kv.create": async (a) => (await bucket(a)).create(a.key, a.value, a.ttl_s && `${a.ttl_s}s`),
  "kv.update": async (a) => (await bucket(a)).update(a.key, a.value, a.revision),
  "kv.get": async (a) => entry(await (await bucket(a)).get(a.key, a.revision && { revision: a.revision })),
  "kv.delete": async (a) => void await (await bucket(a)).delete(a.key, a.revision && { previousSeq: a.revision }),
  "kv.purge": async (a) => void await (await bucket(a)).purge(a.key, a.ttl_s && { ttl: `${a.ttl_s}s` }),
  "kv.keys": async (a) => (await all(await (await bucket(a)).keys(a.keys))).sort(),
  "kv.purge_deletes": async (a) => void await (await bucket(a)).purgeDeletes(-1000),
  "kv.history": async (a) => (await all(await (await bucket(a)).history({ key: a.key }))).map(entry),
  "kv.status": async (a) => {
    const s = await (await bucket(a)).status();
    return { bucket: s.bucket, values: s.values, history: s.history, ttl_ms: s.ttl, marker_ttl_ms: s.markerTTL };
  },
  // Entries of a watch until there are `count`; `started` names a key that is put when it watches.
  "kv.watch": async (a) => {
    const kv = await bucket(a);
    const watch = await kv.watch({
      key: a.key ?? ">", include: a.include_history ? KvWatchInclude.AllHistory : undefined,
      ignoreDeletes: a.ignore_deletes, headers_only: a.meta_only,
    });
    if (a.started) await kv.put(a.started, "watching");
    const found = [];
    for await (const e of watch) {
      if (e.key !== a.started) found.push(entry(e));
      if (found.length === a.count) break;
    }
    return found;
  },

  "obj.create_bucket": async ({ bucket, description }) => void await objm.create(bucket, { description }),
  "obj.put": async (a) => {
    const meta = { name: a.name, description: a.description, metadata: a.metadata };
    if (a.chunk_size) meta.options = { max_chunk_size: a.chunk_size };
    if (a.headers) {
      meta.headers = headers();
      for (const [k, v] of Object.entries(a.headers)) meta.headers.set(k, v);
    }
    return pick(await (await store(a)).put(meta, Readable.toWeb(createReadStream(a.path))));
  },
  "obj.get": async (a) => {
    const got = await (await store(a)).get(a.name);
    if (!got) return null;
    await got.data.pipeTo(Writable.toWeb(createWriteStream(a.path)));
    const failed = await got.error;
    if (failed) throw failed;
    return pick(got.info);
  },
  "obj.info": async (a) => pick(await (await store(a)).info(a.name)),
  "obj.delete": async (a) => void await (await store(a)).delete(a.name),
  "obj.list": async (a) => (await (await store(a)).list()).map((o) => o.name).sort(),
  "obj.update": async (a) => void await (await store(a)).update(a.name, a.meta),
  "obj.watch": async (a) => {
    const watch = await (await store(a)).watch({ includeHistory: true });
    if (a.started) await (await bucket({ bucket: a.started })).put("started", "");
    const found = [];
    for await (const o of watch) {
      found.push(pick(o));
      if (found.length === a.count) break;
    }
    return found;
  },
  "obj.link": async (a) => {
    const s = await store(a);
    return pick(await s.link(a.name, await (await objm.open(a.target_bucket ?? a.bucket)).info(a.target)));
  },
  "obj.link_store": async (a) => pick(await (await store(a)).linkStore(a.name, await objm.open(a.target_bucket))),
  "obj.seal": async (a) => (await (await store(a)).seal()).sealed,
  "obj.status": async (a) => {
    const s = await (await store(a)).status();
    return { bucket: s.bucket, size: s.size, sealed: s.sealed, description: s.description };
  },

  // A service with an endpoint "echo" in group "peer" , one "fail" and one "crash"; the same as peer_nats_py.py's.
  "svc.start": async (a) => {
    const service = await svcm.add({
      name: a.name, version: a.version, description: a.description, metadata: a.metadata,
    });
    const group = service.addGroup("peer");
    group.addEndpoint("echo", {
      metadata: { kind: "echo" }, handler: (_err, msg) => msg.respond(msg.data),
    });
    service.addEndpoint("fail", { subject: "fail.now", handler: (_err, msg) => msg.respondError(418, "teapot") });
    service.addEndpoint("crash", { handler: () => { throw new ServiceError(418, "teapot"); } });
    services.set(a.name, service);
    await nc.flush();
    return service.info().id;
  },
  "svc.stop": async (a) => void await services.get(a.name).stop(),
  "svc.discover": async (a) => {
    const client = svcm.client({ strategy: "stall", maxWait: 1000 });
    return { ping: await all(await client.ping(a.name, a.id)), info: await all(await client.info(a.name, a.id)),
      stats: await all(await client.stats(a.name, a.id)) };
  },
  "svc.request": async (a) => {
    const msg = await nc.request(a.subject, a.data ?? "", { timeout: 5000 });
    const error = ServiceError.toServiceError(msg);
    return { data: text(msg.data), error: error && { code: `${error.code}`, description: error.message } };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, args } = JSON.parse(line);
  Promise.resolve().then(() => ops[op](args)).then(
    (ok) => console.log(JSON.stringify({ id, ok: ok ?? null })),
    (err) => console.log(JSON.stringify({ id, err: err?.message || `${err}`, code: err?.api_error?.err_code ?? err?.code })),
  );
}
await nc.close();
