// The Spectra page: holds every number, repaints each choice by itself, and tells the server when the
// hand rests, so that the address reopens what is shown.
const pages = new WeakMap()

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let page = pages.get(parentElement)
  if (!page) {
    page = new SpectraPage(parentElement)
    pages.set(parentElement, page)
  }
  page.send = (choice) => setStateValue("choice", choice)
  page.ask = (wanted) => setTriggerValue("file", wanted)
  page.receive(data)
  return () => page.unmount()
}

const REST = 400 // ms after the last choice, when it is written to the address
const NEEDS = new Set(["mean", "magnitude"])
const LISTS = [["harmful", "most harmful"], ["wasteful", "most wasteful"], ["helpful", "most helpful"]]
const COLUMNS = [
  ["layer", "layer"], ["family", "family"], ["component", "component"], ["sigma", "σ"], ["share", "energy"],
  ["mean", "mean g"], ["error", "± s.e."], ["silence", "if silenced, Δ loss"],
]
const upper = (words) => words[0].toUpperCase() + words.slice(1)
const BUDGET_HEADS = ["examples", "mean |g|: halves", "signed g: halves", "top 20 % kept: halves", "mean |g|: to all", "signed g: to all"]
const BUDGET_KEYS = ["examples", "halfMagnitude", "halfSigned", "halfTop", "magnitude", "signed"]
const CHOICES = {
  show: SHOWS,
  scale: [["linear", "linear"], ["log", "logarithmic"]],
  range: [["same", "same for all modules"], ["each", "each module to its own"]],
  measure: MEASURES,
  list: LISTS,
}

class SpectraPage {
  constructor(root) {
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.root = root.querySelector(".spectra")
    this.canvas = this.part("figure")
    this.choice = null
    this.files = new Files((question) => this.ask(question))
    this.serial = Date.now()
    this.listen()
    ;[this.sizes, this.stop] = watch([this.canvas], () => this.paint())
  }

  unmount() {
    this.stop()
    clearTimeout(this.resting)
    this.files.stop()
    pages.delete(this.root.parentNode)
  }

  receive(data) {
    const fresh = this.m?.data.key !== data.key
    if (fresh) this.m = model(data)
    const led = this.imposed !== data.imposed
    if (led) {
      this.imposed = data.imposed
      this.choice = { ...data.choice }
      clearTimeout(this.resting)
    }
    this.files.receive(data.file)
    if (!this.files.waiting) this.part("file-note").textContent = "Download"
    if (fresh || led) this.paintSoon()
  }

  // a choice is drawn at once and told to the server when the hand rests
  choose(change) {
    Object.assign(this.choice, change)
    this.paintSoon()
    this.tellLater()
  }

  // not while a file is made: another run would break that one off
  tellLater() {
    clearTimeout(this.resting)
    this.resting = setTimeout(() => {
      if (this.files.waiting) this.tellLater()
      // numbered, because a choice that was made before and is made again has to be told again
      else this.send({ ...this.choice, number: ++this.serial })
    }, REST)
  }

  open(module, component = 0) {
    if (module) this.choose({ view: "one", module: module.name, component })
  }

  listen() {
    const on = (role, event, handle) => this.part(role).addEventListener(event, handle)
    for (const button of this.root.querySelectorAll("[data-view]"))
      button.addEventListener("click", () => this.choose({ view: button.dataset.view }))
    for (const select of this.root.querySelectorAll("[data-choice]"))
      select.addEventListener("change", () => this.choose({ [select.dataset.choice]: select.value, ...(select.dataset.choice === "module" && { component: 0 }), ...(select.dataset.choice === "list" && { sort: "" }) }))
    for (const button of this.root.querySelectorAll("[data-file]"))
      button.addEventListener("click", () => this.download(button.dataset.file))
    on("previous", "click", () => this.step(-1))
    on("next", "click", () => this.step(1))
    on("figure", "pointermove", (e) => this.tell(e))
    on("figure", "pointerleave", () => (this.part("tip").hidden = true))
    on("figure", "click", (e) => this.click(e))
    on("figure", "keydown", (e) => this.key(e))
    this.root.addEventListener("keydown", (e) => {
      if (e.key === "Escape" && this.choice?.view !== "all") this.choose({ view: "all" })
    })
  }

  get module() {
    return this.m.byName.get(this.choice.module)
  }

  // the next module of the same family
  step(by) {
    const members = this.m.members.get(this.module.family)
    const next = members[(members.indexOf(this.module) + by + members.length) % members.length]
    this.choose({ module: next.name, component: Math.min(this.choice.component, next.rank - 1) })
  }

  tell(event) {
    const hit = this.hit?.(...where(this.canvas, event))
    if (!hit) this.part("tip").hidden = true
    else showTip(this.part("tip"), this.root, event, hit.lines)
  }

  click(event) {
    const hit = this.hit?.(...where(this.canvas, event))
    if (!hit?.module) return
    this.part("tip").hidden = true
    if (this.choice.view === "one") this.choose({ component: hit.component })
    else this.open(hit.module, hit.component)
  }

  key(event) {
    const { view, component } = this.choice
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0, down = { ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0
    if (view === "stability" || !this.module) return
    const rank = this.module.rank
    if (event.key === "Enter" || event.key === " ") this.open(this.module, component)
    else if (event.key === "Home" || event.key === "End") this.choose({ component: event.key === "Home" ? 0 : rank - 1 })
    else if (!across && !down) return
    else if (view === "one" && down) this.step(down)
    else if (view === "one" || (view === "all" && event.shiftKey && across)) this.choose({ component: (component + across + rank) % rank })
    else this.walk(across, down)
    event.preventDefault()
  }

  // to the nearest module in that direction on the board
  walk(across, down) {
    const { row, column, layer } = this.module
    const ahead = this.m.modules.filter((each) =>
      across ? each.row === row && (each.column - column) * across > 0 : (each.row - row) * down > 0)
    const far = (each) => Math.abs(each.row - row) * 1e4 + Math.abs(each.column - column)
    if (!ahead.length) return
    const next = ahead.reduce((best, each) => (far(each) < far(best) ? each : best))
    this.choose({ module: next.name, component: Math.min(this.choice.component, next.rank - 1) })
  }

  paintSoon() {
    this.causes = [...(this.causes ?? []), performance.now()]
    if (this.causes.length > 1) return
    requestAnimationFrame(() => {
      const causes = this.causes
      this.causes = null
      this.paint()
      for (const began of causes) report("spectra", performance.now() - began)
    })
  }

  paint() {
    if (!this.m || !this.choice || !this.root.isConnected) return
    const { m, choice: c } = this
    const need = this.need()
    this.controls(need)
    this.hit = null
    const figure = this.figure(need)
    const height = figure ? this.height() : 0
    if (this.canvas.hidden) this.sizes.delete(this.canvas) // what is known of a hidden canvas is that it has no room
    this.canvas.hidden = !figure
    const key = `${c.view} ${height}`
    if (figure && key !== this.laid) {
      this.laid = key
      this.canvas.style.height = `${height}px`
      this.sizes.delete(this.canvas) // another height, and perhaps another width: to be asked for once
    }
    const readout = this.readout()
    if (this.part("readout").textContent !== readout) this.part("readout").textContent = readout
    if (!figure) return
    const sheet = sheetOf(this.canvas, this.sizes)
    this.hit = figure(sheet, inkOf(this.root), { x: 0, y: 0, width: sheet.width, height: sheet.height }, m, c, true)
    this.canvas.setAttribute("aria-label", `${this.title()[0]}. ${readout} Arrow keys choose, Enter opens the module, Escape goes back.`)
  }

  // why the view cannot be shown, or an empty text
  need() {
    const { view, show } = this.choice
    if (!this.m.modules.length) return "This adapter has no modules."
    if (view === "stability" && this.m.measured && !this.m.measured.stability.length) return this.m.measured.verdicts[0]
    if (this.m.measured) return ""
    const what = { lists: "which components hurt, waste energy or help", stability: "how stable rankings are" }[view] ?? (view === "all" && NEEDS.has(show) ? labelOf(SHOWS, show) : "")
    const rest = view === "one" ? "which components raise or lower the loss" : view === "depth" ? "where energy helps or hurts" : ""
    if (!what && !rest) return ""
    return `Not known yet: ${what || rest}. This needs a calibration: open “Calibrate” above, choose rows and press Measure. σ, energy and ranks need none.`
  }

  figure(need) {
    const { view, show } = this.choice
    if (!this.m.modules.length || (need && (view === "stability" || (view === "all" && NEEDS.has(show))))) return null
    return { all: drawAll, one: drawOne, depth: drawDepth, stability: drawStability }[view] ?? null
  }

  height() {
    const { view } = this.choice, rows = this.m.data.rows.length
    if (view === "all") return Math.round(58 + rows * Math.max(34, Math.min(78, 440 / Math.max(rows, 1))))
    return { one: this.m.measured ? 520 : 300, depth: 380, stability: 330 }[view]
  }

  title() {
    const { view, show, measure, list } = this.choice, { m } = this
    const of = m.measured ? `${m.data.source}; ${m.measured.examples} calibration examples` : m.data.source
    const sure = m.measured ? `; a sign counts from ${m.data.errors} standard errors` : ""
    if (view === "all") return [`${WHAT[show]} of every component, by family and layer`, of + sure]
    if (view === "one") return [`Spectrum of ${this.module?.label ?? ""}`, `${this.choice.module}; ${of}${sure}`]
    if (view === "depth") return [`${upper(labelOf(MEASURES, measure))} over depth, and where the energy sits`, of + sure]
    if (view === "stability") return ["How stable the rankings of components are", of]
    const luck = m.measured ? `${m.measured.named} of ${m.measured.counted.toLocaleString("en")} components were named helpful or harmful; luck alone would name about ${Math.round(m.measured.byLuck)} at ${m.data.errors} standard errors. The first ${m.measured.listed} are listed.` : ""
    return [`Components: ${labelOf(LISTS, list)}`, list === "wasteful" && m.measured ? `Most energy without a sure effect on the loss. ${luck}` : luck]
  }

  controls(need) {
    const { m, choice: c } = this
    for (const button of this.root.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", button.dataset.view === c.view)
    for (const node of this.root.querySelectorAll("[data-for]")) node.hidden = !node.dataset.for.split(" ").includes(c.view)
    this.root.querySelector(".choices").hidden = c.view === "stability"
    for (const select of this.root.querySelectorAll("[data-choice]")) {
      const name = select.dataset.choice
      const options = { module: m.names, family: m.families }[name] ?? CHOICES[name]
      if (select.closest("[data-for]").hidden) continue
      if (options !== select.options_) fill(select, options, c[name])
      select.options_ = options
      select.value = c[name]
    }
    this.root.querySelector("[data-choice=scale]").disabled = c.view === "all" && !["sigma", "magnitude"].includes(c.show)
    this.root.querySelector("[data-choice=range]").disabled = c.show === "energy"
    const [title, sub] = this.title()
    this.part("title").textContent = title
    this.part("sub").textContent = sub
    this.part("need").hidden = !need
    this.part("need").textContent = need
    const drawn = Boolean(this.figure(need))
    for (const button of this.root.querySelectorAll("[data-file]"))
      button.disabled = button.dataset.file === "csv" ? !m.measured && ["lists", "stability"].includes(c.view) : !drawn
    this.facts()
    this.rows()
  }

  facts() {
    const list = this.part("facts"), { m, module } = this
    list.hidden = this.choice.view !== "one" || !module
    if (list.hidden) return
    const k = this.choice.component, i = module.start + k
    const rows = [
      [`Component ${k}`],
      ["σ", text(m.sigma[i])],
      ["share of energy", percent(m.share[i])],
      ["energy up to here", percent(m.energy[i])],
    ]
    if (m.measured && !Number.isNaN(m.mean[i]))
      rows.push(
        ["mean g", plus(m.mean[i])],
        ["± s.e.", text(m.error[i])],
        ["mean |g|", text(m.magnitude[i])],
        ["± s.e.", text(m.magnitudeError[i])],
        ["sign agreement", percent(m.agreement[i], 0)],
        ["standing", { "-1": "helps", 0: "neutral", 1: "hurts" }[m.standing[i]] ?? "none"],
      )
    if (m.repeated[i]) rows.push(["σ repeated", "see below"])
    rows.push(
      [`Module, rank ${module.rank}`],
      ["effective rank", module.effective === null ? "–" : text(module.effective)],
      ["stable rank", module.stable === null ? "–" : text(module.stable)],
      ["k at 90 % energy", module.k90],
    )
    if (module.shares) KINDS.forEach(([, , words], kind) => rows.push([`energy ${words.split(" ")[0]}`, percent(module.shares[kind])]))
    list.replaceChildren(...rows.flatMap(([name, value]) =>
      value === undefined ? [element("dt", { className: "head", textContent: name })]
        : [element("dt", { textContent: name }), element("dd", { textContent: value })]))
  }

  rows() {
    const box = this.part("rows"), { m, choice: c } = this
    const shown = m.measured && (c.view === "lists" || (c.view === "stability" && m.measured.stability.length))
    box.hidden = !shown
    box.classList.toggle("beside", c.view === "stability")
    if (!shown) return
    const key = JSON.stringify([m.data.key, c.view, c.list, c.sort])
    if (box.dataset.key !== key) {
      box.dataset.key = key
      if (c.view === "lists") this.list(box)
      else box.replaceChildren(table(BUDGET_HEADS.map((head) => element("th", { scope: "col" }, element("span", { textContent: head }))),
        m.measured.stability.map((budget) => element("tr", {}, ...BUDGET_KEYS.map((name) =>
          element("td", { textContent: name === "examples" ? budget[name] : budget[name] === null ? "–" : (budget[name] < 0 ? "−" : "") + Math.abs(budget[name]).toFixed(2) }))))))
    }
    if (c.view !== "lists") return
    for (const row of box.querySelectorAll("tbody tr"))
      row.setAttribute("aria-selected", row.dataset.module === c.module && Number(row.dataset.component) === c.component)
  }

  list(box) {
    const { m, choice: c } = this
    const found = m.measured.lists[c.list].map((row) => ({ ...row, module: m.modules[row.module] }))
    const column = c.sort.replace("-", ""), way = c.sort.startsWith("-") ? -1 : 1
    const value = (row) => (column in row ? row[column] : row.module[column]) ?? -Infinity
    if (column) found.sort((a, b) => way * (column === "family" ? value(a).localeCompare(value(b)) : value(a) - value(b)))
    const body = found.map((row) => {
      const open = element("button", { type: "button", textContent: row.module.layer ?? row.module.name, title: row.module.name })
      open.setAttribute("aria-label", `Open ${row.module.label}, component ${row.component}`)
      const cells = [open, row.module.family, row.component, text(row.sigma), percent(row.share), plus(row.mean), text(row.error),
        `${plus(row.silence)} ± ${text(row.silenceError)}`]
      const line = element("tr", {}, ...cells.map((cell, n) => element("td", { className: n < 2 ? "word" : "" }, cell)))
      Object.assign(line.dataset, { module: row.module.name, component: row.component })
      line.onclick = () => this.open(row.module, row.component)
      return line
    })
    const known = box.querySelector("thead.sorted")
    if (!known) {
      const heads = COLUMNS.map(([name, label], n) => {
        const button = element("button", { type: "button" })
        button.onclick = () => this.choose({ sort: this.choice.sort === `-${name}` ? name : `-${name}` })
        const head = element("th", { scope: "col", className: n < 2 ? "word" : "" }, button)
        Object.assign(head.dataset, { name, label })
        return head
      })
      box.replaceChildren(table(heads, body))
      box.querySelector("thead").className = "sorted"
    } else box.querySelector("tbody").replaceChildren(...body)
    for (const head of box.querySelectorAll("th")) {
      const here = head.dataset.name === column
      head.setAttribute("aria-sort", here ? (way < 0 ? "descending" : "ascending") : "none")
      head.firstChild.textContent = head.dataset.label + (here ? (way < 0 ? " ↓" : " ↑") : "")
    }
    if (!body.length) box.querySelector("tbody").append(element("tr", {}, element("td", { colSpan: COLUMNS.length, className: "word", textContent: "No component was named." })))
    box.scrollTop = 0
  }

  // what is chosen, in words
  readout() {
    const { m, module, choice: c } = this
    if (!module) return ""
    if (c.view === "stability") return m.measured ? m.measured.verdicts.join("\n") : ""
    if (c.view === "lists") return ""
    if (c.view === "depth") {
      const [head, words] = module.layer === null || !m.measured ? [] : sharesTold(m, c, module.layer)
      return `${module.label}: ${labelOf(MEASURES, c.measure)} ${text(module[c.measure] ?? 0)} of ${module.rank}.` + (head ? ` ${upper(head)}: ${words}.` : "")
    }
    return told(m, module, c.component).join("; ") + "."
  }

  // pictures are made here; what needs every digit or a library is asked for
  download(kind) {
    const { m } = this, c = { ...this.choice }
    if (kind === "png" || kind === "svg") {
      const figure = this.figure(this.need()), [title, sub] = this.title(), head = 46
      const width = 1200, height = this.height() + head
      const draw = (sheet, ink) => {
        sheet.text(12, 20, title, ink.text, { size: 15, bold: true })
        sheet.text(12, 37, sub, ink.soft)
        figure(sheet, ink, { x: 12, y: head, width: width - 24, height: height - head - 4 }, m, c, false)
      }
      const stem = `spectra-${c.view === "one" ? c.module.replace(/[^\p{L}\p{N}._]/gu, "-").slice(-80) : c.view}`
      ;(kind === "png" ? savePng : saveSvg)(`${stem}.${kind}`, width, height, draw)
      return
    }
    this.part("file-note").textContent = `Making ${kind.toUpperCase()}…`
    this.files.want(kind, c)
  }
}

function table(heads, rows) {
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))
}

// what arrived, decoded and indexed once
function model(data) {
  const { measured } = data
  const m = { data, modules: data.modules, measured, sigma: floats(data.sigma), share: floats(data.share), energy: floats(data.energy), repeated: new Uint8Array(bytes(data.repeated)) }
  if (measured) {
    for (const name of ["mean", "error", "magnitude", "magnitudeError", "agreement"]) m[name] = floats(measured[name])
    m.standing = new Int8Array(bytes(measured.standing))
    const renamed = measured.stability.map((budget) => ({ ...budget, halfMagnitude: budget.half_magnitude, halfSigned: budget.half_signed, halfTop: budget.half_top }))
    m.measured = { ...measured, stability: renamed }
  }
  m.byName = new Map(m.modules.map((module) => [module.name, module]))
  m.at = new Map(m.modules.map((module) => [`${module.row} ${module.column}`, module]))
  m.members = new Map(data.families.map((family) => [family, m.modules.filter((module) => module.family === family)]))
  m.layers = [...new Set(m.modules.map((module) => module.layer).filter((layer) => layer !== null))].sort((a, b) => a - b)
  m.layerAt = new Map(m.layers.map((layer, at) => [layer, at]))
  m.names = m.modules.map((module) => [module.name, module.label])
  m.families = [["", "all families"], ...data.families.map((family) => [family, family])]
  return m
}
