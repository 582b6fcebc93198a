// The JavaScript client as our server meets it, and what is asked of it: one line of JSON for each probe.
//
//     node --experimental-websocket client.mjs '{"open": "http://127.0.0.1:...", ...}' PROBES
//
// The two clients do what the published ones do, and no more: they never look at a status, send no token, and a call
// that is not answered waits for ever.

class HttpClient {
  constructor(endpoint) {
    this.endpoint = endpoint
  }

  async run(task, input) {
    const headers = { "Content-Type": "application/json" }
    const response = await fetch(this.endpoint, { method: "POST", headers, body: JSON.stringify({ task, input }) })
    const { result, error } = await response.json()
    if (error) throw new Error(error)
    return result
  }
}

class SocketClient {
  static async open(endpoint, protocols = []) {
    const client = new SocketClient(new WebSocket(endpoint, protocols))
    await new Promise((open, fail) => {
      client.socket.onopen = open
      client.socket.onerror = () => fail(new Error("WebSocket not connected"))
    })
    return client
  }

  constructor(socket) {
    this.socket = socket
    this.pending = new Map()
    this.last = 0
    this.heard = [] // every frame, so that a probe can look at what the client passes over
    socket.onmessage = ({ data }) => this.hear(data)
  }

  run(task, input) {
    const id = ++this.last
    this.socket.send(JSON.stringify({ task, input, id }))
    return this.answer(id)
  }

  answer(id) {
    return new Promise((resolve, reject) => this.pending.set(id, { resolve, reject }))
  }

  hear(data) {
    this.heard.push(data)
    const { id, result, error } = JSON.parse(data)
    const waiting = this.pending.get(id)
    if (!waiting) return
    this.pending.delete(id)
    if (error) waiting.reject(error)
    else waiting.resolve(result)
  }

  // What follows is for the probes; the published client has none of it.

  say(frame) {
    this.socket.send(typeof frame === "string" ? frame : JSON.stringify(frame))
  }

  async frames(count) {
    while (this.heard.length < count) await new Promise(next => setImmediate(next))
    return this.heard.map(each => JSON.parse(each))
  }

  close() {
    const closed = new Promise(done => (this.socket.onclose = done))
    this.socket.close()
    return closed
  }
}

const at = JSON.parse(process.argv[2])
const http = new HttpClient(at.open + "/compute")
const json = { "Content-Type": "application/json" }
const post = (url, body, headers = json) => fetch(url, { method: "POST", headers, body })

/** What a request is answered with: its status, the kind of its body, and the error that every client can read. */
async function told(asked) {
  const response = await asked
  const { error, code } = await response.json()
  return [response.status, response.headers.get("content-type"), typeof error === "string" && error !== "", code]
}

/** The messages of a stream, however its bytes are cut. */
async function lines(response) {
  let text = ""
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) text += part
  return text.split("\n").filter(line => line !== "")
}

/** Both clients are asked the same, one after the other. */
async function both(probe) {
  const socket = await SocketClient.open(at.socket)
  const outcomes = []
  for (const client of [http, socket]) {
    outcomes.push(await probe(client).catch(error => (error instanceof Error ? "Error: " + error.message : error)))
  }
  await socket.close()
  return outcomes
}

async function withSocket(probe, url = at.socket, protocols = []) {
  const socket = await SocketClient.open(url, protocols)
  try {
    return await probe(socket)
  } finally {
    await socket.close()
  }
}

const everywhere = {
  "a number": client => client.run("double", 21),
  "a text": client => client.run("echo", "grüße, 世界 \u{1f600} \u0000 \u2028"),
  "an object": client => client.run("echo", { a: [1, 2.5, null, true], b: { c: "d" } }),
  "several parameters": client => client.run("join", { left: "a", right: "b" }),
  "an input that is undefined": client => client.run("nothing", undefined),
  "an input that is undefined, and a default": client => client.run("greet", undefined),
  "an input that is undefined, and null is allowed": client => client.run("maybe", undefined),
  "a field that is undefined": client => client.run("join", { left: "a", right: undefined }),
  "results that are falsy": async client => {
    const found = []
    for (const input of [0, false, "", null]) found.push(await client.run("echo", input))
    return found
  },
  "a generator": client => client.run("count", 3),
  "progress that nobody asked for": client => client.run("slowly", 3),
  "bytes": client => client.run("reverse", btoa("abc")),
  "a date": async client => new Date(await client.run("day_after", new Date(Date.UTC(2024, 1, 28)))).toISOString(),
  "an array of numpy": client => client.run("zeros", 3),
  "a safe integer": client => client.run("double", (Number.MAX_SAFE_INTEGER - 1) / 2),
  "a megabyte": async client => (await client.run("echo", "x".repeat(2 ** 20))).length,
  "a task that raises": client => client.run("fail", "the disk is full"),
  "a task that raises without a word": client => client.run("fail", ""),
  "a task that is not there": client => client.run("missing", 1),
  "an input that does not fit": client => client.run("join", { left: "a", right: 2 }),
  "half of a surrogate pair": client =>
    client.run("echo", "\ud800").catch(error => /this is not a call/.test(error)),
  "a result that is not a number": client => client.run("divide", 0),
  "a name like one of Object's own": client => client.run("__proto__", 1),
  "no task at all": client => client.run(undefined, 1),
  "a hundred at once": async client => {
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => client.run("double", n)))
    return answers.every((answer, n) => answer === 2 * n)
  },
}

const probes = {
  ...Object.fromEntries(Object.entries(everywhere).map(([name, probe]) => [name, () => both(probe)])),

  "http: the root is an endpoint too": () => new HttpClient(at.open).run("double", 4),
  "http: an integer that JavaScript cannot hold": async () =>
    (await post(at.open + "/tasks/double", "9007199254740993")).text(),
  "http: no JSON": () => told(post(at.open + "/compute", "{")),
  "http: no call": () => told(post(at.open + "/compute", '"double"')),
  "http: a form": () => told(post(at.open + "/compute", "task=double", { "Content-Type": "text/plain" })),
  "http: the wrong method": () => told(fetch(at.open + "/compute")),
  "http: the wrong address": () => told(post(at.open + "/compute/elsewhere", "{}")),
  "http: the wrong origin": () => told(post(at.open + "/compute", "{}", { ...json, Origin: "https://evil.example" })),
  "http: no token": () => told(post(at.guarded + "/compute", '{"task": "double", "input": 1}')),
  "http: too large": () => told(post(at.guarded + "/compute?access_token=" + at.token, JSON.stringify("x".repeat(9999)))),
  "http: too often": async () => {
    const call = () => post(at.guarded + "/compute?access_token=" + at.slow, '{"task": "double", "input": 1}')
    return [(await call()).status, ...(await told(call())), (await call()).headers.get("retry-after")]
  },
  "http: a token in the address": () =>
    new HttpClient(at.guarded + "/compute?access_token=" + at.token).run("double", 5),
  "http: a token in a header": async () => {
    const headers = { ...json, Authorization: "Bearer " + at.token }
    return (await post(at.guarded + "/tasks/double", "6", headers)).json()
  },
  "http: a page of an allowed origin asks first": async () => {
    const headers = { Origin: at.origin, "Access-Control-Request-Method": "POST" }
    headers["Access-Control-Request-Headers"] = "content-type,authorization"
    const answer = await fetch(at.open + "/compute", { method: "OPTIONS", headers })
    const allowed = answer.headers.get("access-control-allow-headers").toLowerCase()
    return [answer.status, answer.headers.get("access-control-allow-origin"), allowed.includes("content-type")]
  },
  "http: a page of another origin asks first": async () => {
    const headers = { Origin: "https://evil.example", "Access-Control-Request-Method": "POST" }
    const answer = await fetch(at.open + "/compute", { method: "OPTIONS", headers })
    return [answer.status, answer.headers.get("access-control-allow-origin")]
  },
  "http: an allowed page may read an error": async () => {
    const answer = await post(at.open + "/compute", '{"task": "missing"}', { ...json, Origin: at.origin })
    return [answer.status, answer.headers.get("access-control-allow-origin")]
  },
  "http: a batch": async () =>
    (await (await post(at.open + "/compute", '[{"task": "double", "input": 1}, {"task": "missing"}]')).json()).map(
      ({ result, code }) => result ?? code,
    ),
  "http: lines": async () => {
    const answer = await post(at.open + "/tasks/count", "2", { ...json, Accept: "application/x-ndjson" })
    return [answer.headers.get("content-type"), ...(await lines(answer))]
  },
  "http: events": async () => {
    const answer = await post(at.open + "/tasks/count", "2", { ...json, Accept: "text/event-stream" })
    return [answer.headers.get("content-type"), ...(await lines(answer))]
  },
  "http: an abort stops the task": async () => {
    const leave = new AbortController()
    const body = '{"task": "linger"}'
    const call = fetch(at.open + "/compute", { method: "POST", headers: json, body, signal: leave.signal })
    await http.run("begun")
    leave.abort()
    return [await call.catch(error => error.name), await http.run("stopped")]
  },
  "http: a worker that dies": () =>
    new HttpClient(at.workers + "/compute").run("die").catch(error => /exited with code 9/.test(error)),
  "http: and the next one": () => new HttpClient(at.workers + "/compute").run("double", 7),

  "socket: frames are text, one for each call": () =>
    withSocket(async client => {
      await Promise.all([client.run("slowly", 3), client.run("count", 3), client.run("double", 1)])
      return client.heard.map(each => typeof each)
    }),
  "socket: quick calls overtake slow ones": () =>
    withSocket(async client => {
      const order = []
      const slow = client.run("linger", null).catch(error => order.push(error))
      await client.run("begun")
      order.push(await client.run("double", 1))
      client.say({ id: 1, cancel: true })
      await slow
      return order
    }),
  "socket: what is no call is answered, and the connection stays": () =>
    withSocket(async client => {
      for (const frame of ["{", "3", { id: 77, task: 5 }, { id: "x", cancel: "no" }]) client.say(frame)
      return [await client.run("double", 8), (await client.frames(5)).map(({ id, code }) => [id, code ?? "fine"])]
    }),
  "socket: an id that is taken": () =>
    withSocket(async client => {
      const first = client.run("linger", null).catch(error => error)
      client.say({ id: 1, task: "double", input: 1 })
      const [{ id, code }] = await client.frames(1)
      client.say({ id: 1, cancel: true })
      return [id, code, await first]
    }),
  "socket: ids come back as they came": () =>
    withSocket(async client => {
      const ids = [0, -1, 1.5, "1", ""]
      for (const id of ids) client.say({ id, task: "nothing" })
      const back = (await client.frames(5)).map(each => each.id) // as they end, in whatever order
      return ids.filter(id => back.includes(id))
    }),
  "socket: a batch": () =>
    withSocket(async client => {
      client.say([{ id: 1, task: "double", input: 1 }, { id: 2, task: "missing" }])
      return (await client.frames(1))[0].map(({ id, result, code }) => ({ id, result, code }))
    }),
  "socket: a stream": () =>
    withSocket(async client => {
      client.say({ id: 1, task: "count", input: 2, stream: true })
      return client.frames(3)
    }),
  "socket: a stream with credit": () =>
    withSocket(async client => {
      client.say({ id: 9, task: "count", input: 3, stream: true, credit: 1 })
      await client.frames(1)
      await client.run("double", 1) // answered, while the stream waits
      const before = client.heard.length
      client.say({ id: 9, credit: 5 })
      return [before, (await client.frames(5)).filter(each => each.chunk !== undefined).map(each => each.chunk)]
    }),
  "socket: to leave stops the task": async () => {
    await withSocket(async client => {
      client.run("linger", null)
      await http.run("begun")
    })
    return http.run("stopped")
  },
  "socket: no token": () => SocketClient.open(at.guardedSocket).catch(error => error.message),
  "socket: a token as a subprotocol": () =>
    withSocket(
      async client => [client.socket.protocol, await client.run("double", 9)],
      at.guardedSocket,
      ["hybrid-compute", "bearer." + at.token],
    ),
}

/** Asked alone, of a server that is told to stop while the call is under way. */
const farewell = {
  "every call is answered before the connection is closed": async () => {
    const client = await SocketClient.open(at.socket)
    const closed = new Promise(done => (client.socket.onclose = ({ code }) => done(code)))
    const calls = [client.run("hold", 1), client.run("hold", 2)]
    return [...(await Promise.all(calls)), await closed]
  },
}

/** What a probe comes to; a call that nobody answers would hold up all the others. */
function outcomeOf(probe) {
  const limit = new Promise(give => setTimeout(give, 10_000, { error: "no answer within 10 s" }).unref())
  return Promise.race([probe().catch(error => ({ error: String(error) })), limit])
}

for (const [name, probe] of Object.entries(process.argv[3] === "farewell" ? farewell : probes)) {
  console.log(JSON.stringify({ probe: name, outcome: await outcomeOf(probe) }))
}
process.exit() // also where a connection hangs
