// The script of the page at /docs, run without a browser: a few lines stand in for the document, `fetch` is real.
//
//     node page.mjs URL [TOKEN]
//
// Prints what the page says at first, then the tasks it lists, then what came of running each, as a line of JSON.

const [url, token] = process.argv.slice(2)

class Element {
  constructor(name) {
    Object.assign(this, { name, children: [], textContent: "", value: "", className: "", hidden: false, listeners: {} })
  }
  append(child) { this.children.push(child) }
  replaceChildren() { this.children = [] }
  setAttribute() {}
  addEventListener(kind, listener) { this.listeners[kind] = listener }
  get childElementCount() { return this.children.length }
  all(name) { return this.children.flatMap(each => [...(each.name === name ? [each] : []), ...each.all(name)]) }
}

const page = await (await fetch(url + "/docs")).text()
const script = /<script>(.*)<\/script>/s.exec(page)[1]
const byId = Object.fromEntries([...page.matchAll(/id="(\w+)"/g)].map(([, id]) => [id, new Element(id)]))
const main = new Element("main"), title = new Element("h1")
const document = {
  getElementById: id => byId[id],
  querySelector: selector => ({ main, h1: title })[selector],
  createElement: name => new Element(name),
}

/** Requests of the page, which are relative to it. */
const asked = (address, options) => fetch(new URL(address, url + "/docs"), options)

async function until(condition) {
  while (!condition()) await new Promise(next => setImmediate(next))
}

new Function("document", "fetch", script)(document, asked)
await until(() => byId.said.textContent || main.children.length)
const first = byId.said.textContent
if (token) {
  byId.token.value = token
  byId.door.onsubmit({ preventDefault() {} })
  await until(() => main.children.length)
}

const ran = {}
for (const box of main.children) {
  box.listeners.toggle()
  const [run, follow, stop] = box.all("button")
  for (const button of follow.hidden ? [run] : [run, follow]) {
    button.onclick()
    await until(() => stop.hidden)
    const name = box.children[0].children[0].textContent + (button === follow ? " as a stream" : "")
    const [state, out] = [box.all("h2").at(-1), box.all("pre").at(-1)]
    ran[name] = [box.all("textarea")[0].value, state.textContent.split(" ·")[0], out.textContent]
  }
}
console.log(JSON.stringify({ first, title: title.textContent, ran }))
