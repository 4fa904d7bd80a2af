// The board: draws what the server computed. While a knob is dragged it repaints from the server's
// table of that knob's steps; no policy is computed here.
const boards = new WeakMap()

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let board = boards.get(parentElement)
  if (!board) {
    board = new Board(parentElement)
    boards.set(parentElement, board)
  }
  board.send = (acts) => setStateValue("acts", acts)
  board.arm = (knob) => setTriggerValue("arm", knob)
  board.rest = () => setTriggerValue("rest", true)
  board.receive(data)
  return () => board.unmount()
}

const GAIN_UNIT = 4096 // a table's gains travel as whole numbers of 1/4096
const QUIET = 500 // ms without an act, after which the page around the board is brought up to date
const SHADES = shades(["#a8283c", "#e08a8f", "#e6e8ee", "#6fb9bb", "#0a6b6e"]).map(css)

class Board {
  constructor(root) {
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.root = root.querySelector(".board")
    this.canvas = {}
    for (const name of ["bars", "gate", "map"]) this.canvas[name] = this.part(name)
    this.waiting = [] // acts the server has not answered yet
    this.serial = Date.now()
    this.picked = new Set([0])
    this.module = null
    this.drag = null // {knob, step} or {component, gain}: what the hand has moved and the server not yet confirmed
    this.held = false // a knob or bar is under a pressed button: nothing may move it but the hand
    this.knobKey = ""
    this.listen()
    // undo and redo are acts like all others, so that quick presses all count
    this.onKey = (e) => {
      if (!(e.ctrlKey || e.metaKey) || e.key.toLowerCase() !== "z" || /TEXTAREA/.test(document.activeElement?.tagName)) return
      e.preventDefault()
      this.act(e.shiftKey ? "redo" : "undo", {})
    }
    document.addEventListener("keydown", this.onKey)
    ;[this.size, this.stop] = watch(Object.values(this.canvas), () => this.paint())
  }

  unmount() {
    this.stop()
    clearTimeout(this.resting)
    document.removeEventListener("keydown", this.onKey)
    boards.delete(this.root.parentNode)
  }

  // everything a person does becomes one act; the list is sent whole, so that no act is lost
  act(type, detail) {
    this.waiting.push({ id: ++this.serial, type, ...detail })
    this.asked = performance.now()
    clearTimeout(this.resting)
    this.part("numbers").classList.add("pending")
    this.send(this.waiting)
  }

  receive(data) {
    const known = this.data
    this.data = data
    this.waiting = this.waiting.filter((act) => act.id > data.answered)
    this.sigma = floats(data.sigma)
    this.mean = floats(data.mean)
    this.error = floats(data.error)
    this.gains = floats(data.gains)
    this.position = floats(data.position)
    if (data.table) {
      this.table = { ...data.table, codes: shorts(data.table.gains) }
      this.arming = null
    }
    if (this.table && this.table.key !== data.tableKeys[this.table.knob]) this.table = null
    if (!data.modules.some((module) => module.name === this.module)) this.module = data.modules[0]?.name
    if (!this.waiting.length) {
      if (!this.held) this.drag = null
      this.part("numbers").classList.remove("pending")
      this.controls()
    }
    this.modules(known)
    this.paint()
    if (this.asked && !this.waiting.length) {
      const asked = this.asked
      this.asked = null
      requestAnimationFrame(() => report("confirm", performance.now() - asked))
      this.settle()
    }
  }

  // an act reruns the board alone; what else the page shows follows when the hand rests
  settle() {
    clearTimeout(this.resting)
    this.resting = setTimeout(() => {
      if (this.held || document.querySelector('[role="dialog"]')) this.settle()
      else this.rest()
    }, QUIET)
  }

  controls() {
    const { data } = this
    this.part("undo").disabled = data.at === 0
    this.part("redo").disabled = data.at === data.steps - 1
    this.part("step").textContent = this.part("step").title = `${data.at + 1} of ${data.steps}: ${data.step}`
    fill(this.part("policy"), data.policies.map((p) => [p.name, p.name]), data.policy)
    this.part("policy-title").textContent = data.policies.find((p) => p.name === data.policy).title
    fill(this.part("energy"), data.energies, data.energy)
    const floor = this.part("sigma-min")
    if (!floor.dirty) floor.value = data.sigmaMin
    this.part("source").textContent = data.source
    const key = JSON.stringify([data.policy, data.knobs.map((knob) => knob.name)])
    if (key !== this.knobKey) {
      this.knobKey = key
      this.part("knobs").replaceChildren(...data.knobs.map((knob) => this.knob(knob)))
    }
    for (const knob of data.knobs) {
      const input = this.part("knobs").querySelector(`[name="${knob.name}"]`)
      const field = input.closest("label")
      field.hidden = knob.idle
      if (this.held && this.drag?.knob === knob.name) continue
      if (knob.kind === "bool") input.checked = knob.value
      else input.value = knob.value
      const shown = field.querySelector("output")
      if (shown) shown.textContent = text(knob.value)
    }
    const skipped = this.part("skipped")
    skipped.hidden = !data.skipped
    skipped.textContent = data.skipped
    this.part("gate-title").textContent = data.gateTitle
  }

  knob(knob) {
    const field = element("label", { className: "field", title: knob.help })
    const name = element("span", { textContent: knob.label })
    field.append(name)
    let input
    if (knob.kind === "choice") {
      input = element("select", { name: knob.name })
      fill(input, knob.choices.map((choice) => [choice, choice]), knob.value)
      input.onchange = () => this.act("knob", { knob: knob.name, value: input.value })
    } else if (knob.kind === "bool") {
      input = element("input", { type: "checkbox", name: knob.name })
      input.onchange = () => this.act("knob", { knob: knob.name, value: input.checked })
      name.append(input)
      return field
    } else if (knob.kind === "number") {
      input = element("input", { type: "number", name: knob.name, min: knob.low, max: knob.high, step: knob.step })
      input.onchange = () => this.act("knob", { knob: knob.name, value: Number(input.value) })
    } else {
      name.append(element("output", { textContent: text(knob.value) }))
      input = element("input", { type: "range", name: knob.name, min: 0, max: 1, step: 1 })
      Object.assign(input, { min: knob.low, max: knob.high, step: knob.step })
      const arm = () => {
        if (this.table?.knob !== knob.name && this.arming !== knob.name + this.data.tableKeys[knob.name]) {
          this.arming = knob.name + this.data.tableKeys[knob.name]
          this.arm(knob.name)
        }
      }
      field.onpointerenter = arm
      input.onfocus = arm
      input.onpointerdown = () => (this.held = true)
      input.onpointerup = input.onpointercancel = () => (this.held = false)
      input.oninput = () => {
        arm()
        name.querySelector("output").textContent = text(Number(input.value))
        this.drag = { knob: knob.name, step: Math.round((input.value - knob.low) / knob.step) }
        this.paintSoon("drag")
      }
      input.onchange = () => {
        this.held = false
        this.act("knob", { knob: knob.name, value: Number(input.value) })
      }
    }
    input.setAttribute("aria-label", knob.label)
    field.append(input)
    return field
  }

  modules(known) {
    if (known?.modules.length === this.data.modules.length && known.scope === this.data.scope) return
    fill(this.part("module"), this.data.modules.map((m) => [m.name, m.label]), this.module)
  }

  get at() {
    return this.data.modules.findIndex((module) => module.name === this.module)
  }

  open(name) {
    this.module = name
    this.part("module").value = name
    this.picked = new Set([0])
    this.paintSoon("select")
  }

  listen() {
    const on = (role, event, handle) => this.part(role).addEventListener(event, handle)
    for (const role of ["gain", "sigma-min"]) {
      // what is being typed is not written over; Enter hands the field back
      on(role, "input", (e) => (e.target.dirty = true))
      on(role, "change", (e) => (e.target.dirty = false))
    }
    on("undo", "click", () => this.act("undo", {}))
    on("redo", "click", () => this.act("redo", {}))
    on("policy", "change", (e) => this.act("policy", { value: e.target.value }))
    on("energy", "change", (e) => this.act("energy", { value: e.target.value }))
    on("sigma-min", "change", (e) => this.act("sigma_min", { value: Number(e.target.value) }))
    on("module", "change", (e) => this.open(e.target.value))
    const step = (by) => this.open(this.data.modules.at((this.at + by) % this.data.modules.length).name)
    on("previous", "click", () => step(-1))
    on("next", "click", () => step(1))
    on("all", "click", () => {
      this.picked = new Set(Array(this.data.modules[this.at].rank).keys())
      this.paintSoon("select")
    })
    on("silence", "click", () => this.byHand(() => 0))
    on("lock", "click", () => this.byHand("lock"))
    on("reset", "click", () => this.byHand(null))
    on("reset-all", "click", () => this.act("forget", {}))
    on("gain", "change", (e) => e.target.value !== "" && this.byHand(() => Number(e.target.value)))
    on("bars", "pointerdown", (e) => this.grab(e))
    on("bars", "pointermove", (e) => (this.held && this.drag?.component !== undefined ? this.pull(e) : this.tell(e)))
    on("bars", "pointerup", () => this.letGo())
    on("bars", "pointercancel", () => {
      this.held = false
      this.drag = null
      this.paintSoon("select")
    })
    on("bars", "pointerleave", () => this.hush())
    on("bars", "keydown", (e) => this.key(e))
    on("map", "click", (e) => {
      const hit = this.mapHit?.(e)
      if (hit) this.open(hit.module.name)
    })
    on("map", "pointermove", (e) => this.tellMap(e))
    on("map", "pointerleave", () => this.hush())
  }

  byHand(gain) {
    const module = this.data.modules[this.at]
    const gains = {}
    for (const k of this.picked) gains[k] = typeof gain === "function" ? gain(k) : gain
    this.act("manual", { module: module.name, gains })
  }

  grab(event) {
    const hit = this.barHit(event)
    if (!hit) return
    this.canvas.bars.setPointerCapture(event.pointerId)
    if (event.shiftKey || event.ctrlKey || event.metaKey) {
      if (!this.picked.delete(hit.component)) this.picked.add(hit.component)
    } else this.picked = new Set([hit.component])
    this.held = true
    this.drag = { component: hit.component, gain: null, from: event.clientY }
    this.paintSoon("select")
  }

  pull(event) {
    if (this.drag.gain === null && Math.abs(event.clientY - this.drag.from) < 3) return
    this.drag.gain = this.barHit(event, this.drag.component).gain
    this.hush() // it would tell the gain from before the pull
    this.paintSoon("drag")
  }

  letGo() {
    if (!this.held || this.drag?.component === undefined) return
    this.held = false
    const { gain, component } = this.drag
    if (gain === null) this.drag = null
    else this.act("manual", { module: this.module, gains: { [component]: gain } })
  }

  key(event) {
    const module = this.data.modules[this.at]
    const first = Math.min(...this.picked)
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    const nudge = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key]
    if (move) this.picked = new Set([(first + move + module.rank) % module.rank])
    else if (nudge) {
      const gains = {}
      for (const k of this.picked) {
        // drawn at once, so that quick presses add up
        gains[k] = Math.max(0, Math.round((this.gains[module.start + k] + nudge) * 100) / 100)
        this.gains[module.start + k] = gains[k]
      }
      this.act("manual", { module: module.name, gains })
    }
    else if (event.key === "Delete") this.byHand(() => 0)
    else if (event.key === "Backspace") this.byHand(null)
    else if (event.key === "l") this.byHand("lock")
    else return
    event.preventDefault()
    this.paintSoon("select")
  }

  // the row of the table under the knob that is being dragged; null where the policy refuses the value
  get row() {
    if (!this.drag?.knob || this.table?.knob !== this.drag.knob) return null
    const row = Math.min(Math.round(this.drag.step / this.table.every), this.table.numbers.length - 1)
    return this.table.numbers[row] ? row : null
  }

  // gains of all components as the screen shows them now: the server's, a row of the table, a pulled bar
  gainsNow() {
    const { row } = this, size = this.sigma.length
    const gains =
      row === null
        ? this.gains.slice()
        : Float32Array.from(this.table.codes.subarray(row * size, (row + 1) * size), (code) => code / GAIN_UNIT)
    if (this.drag?.gain != null) gains[this.data.modules[this.at].start + this.drag.component] = this.drag.gain
    return gains
  }

  numbersNow() {
    return this.row === null ? this.data.numbers : this.table.numbers[this.row]
  }

  paintSoon(kind) {
    this.kinds = [...(this.kinds ?? []), [kind, performance.now()]]
    if (this.kinds.length > 1) return
    requestAnimationFrame(() => {
      const kinds = this.kinds
      this.kinds = null
      this.paint()
      for (const [name, began] of kinds) report(name, performance.now() - began)
    })
  }

  paint() {
    if (!this.data || !this.root.isConnected) return
    this.ink = inkOf(this.root)
    const gains = this.gainsNow()
    this.paintNumbers(this.numbersNow())
    if (!this.data.modules.length) return
    this.paintBars(gains)
    this.paintGate(gains)
    this.paintMap(gains)
  }

  paintNumbers(numbers) {
    const measured = numbers.predicted !== null
    const noise = measured && Math.abs(numbers.predicted) <= 2 * (numbers.standardError ?? Infinity)
    const error = numbers.standardError === null ? "" : ` ± ${numbers.standardError.toFixed(4)}`
    const rows = [
      ["Predicted Δ loss", measured ? signed(numbers.predicted) + error : "not measured",
        measured ? (numbers.predicted === 0 ? "nothing changes" : noise ? "within noise" : "first order, nats per token; lower is better") : "calibrate on Spectra"],
      ["Edited scalars", this.data.scalars.toLocaleString("en"), `${this.data.modules.length} modules`],
      ["Raised", numbers.raised, ""],
      ["Lowered", numbers.lowered, `${numbers.silenced} silenced`],
      ["Energy moved", `${(100 * numbers.energyMoved).toFixed(1)}%`, `Σσ′/Σσ ${numbers.energyKept.toFixed(3)}`],
    ]
    const list = this.part("numbers")
    if (list.childElementCount !== rows.length)
      list.replaceChildren(...rows.map(() => {
        const cell = element("div", {})
        cell.append(element("dt", {}), element("dd", {}), element("small", {}))
        return cell
      }))
    rows.forEach((row, i) => row.forEach((value, j) => {
      const node = list.children[i].children[j]
      if (node.textContent !== String(value)) node.textContent = value
    }))
  }

  paintBars(gains) {
    const [g, width, height] = context(this.canvas.bars, this.size)
    const module = this.data.modules[this.at]
    const sigma = this.sigma.subarray(module.start, module.start + module.rank)
    const after = sigma.map((value, k) => value * gains[module.start + k])
    const left = 46, bottom = 48, top = 8
    const high = this.drag?.component !== undefined && this.bars ? this.bars.high : Math.max(...sigma, ...after, 1e-12) * 1.08
    const y = (value) => top + (height - top - bottom) * (1 - value / high)
    const cell = (width - left - 6) / module.rank
    this.bars = { left, cell, y, high, top, height: height - top - bottom, module }
    axis(g, this.ink, left, width - 6, y, ticks(high))
    const manual = this.data.manual[module.name] ?? {}
    const size = this.mean.length ? Math.max(...this.mean.subarray(module.start, module.start + module.rank).map(Math.abs)) : 0
    for (let k = 0; k < module.rank; k++) {
      const x = left + k * cell
      if (this.picked.has(k)) {
        g.fillStyle = this.ink.accent
        g.globalAlpha = 0.13
        g.fillRect(x, top, cell, height - top - bottom)
        g.globalAlpha = 1
      }
      g.fillStyle = "#9aa5b8"
      g.fillRect(x + cell * 0.12, y(sigma[k]), cell * 0.36, y(0) - y(sigma[k]))
      g.fillStyle = k in manual ? "#e0a030" : "#5b6ee1"
      g.fillRect(x + cell * 0.52, y(after[k]), cell * 0.36, Math.max(y(0) - y(after[k]), 1))
      // sensitivity as a mark below the axis: downwards harmful, upwards helpful to raise
      if (size > 0) {
        const share = this.mean[module.start + k] / size
        const certain = Math.abs(this.mean[module.start + k]) > 2 * this.error[module.start + k]
        g.fillStyle = certain ? (share > 0 ? "#d1495b" : "#0f8a8a") : "#8a94a6"
        g.fillRect(x + cell * 0.3, height - 14, cell * 0.4, share * 11)
      }
      if (module.rank <= 40 || k % 8 === 0) {
        g.fillStyle = this.ink.text
        g.textAlign = "center"
        g.fillText(k, x + cell / 2, height - 34)
      }
    }
    g.fillStyle = this.ink.text
    g.textAlign = "left"
    g.fillText("σ", 4, top + 10)
    g.fillText("mean g", 2, height - 10)
    g.strokeStyle = this.ink.line
    line(g, left, height - 14, width - 6, height - 14)
    const chosen = [...this.picked].sort((a, b) => a - b)
    this.part("picked").textContent = chosen.length === 1 ? `component ${chosen[0]}` : `${chosen.length} components`
    const field = this.part("gain")
    const one = gains[module.start + (chosen[0] ?? 0)]
    if (!field.dirty) field.value = chosen.length === 1 ? one.toFixed(3) : ""
    this.part("reset-all").disabled = !Object.keys(this.data.manual).length
    this.canvas.bars.setAttribute("aria-label", `Singular values of ${module.name} before and after. ` +
      `Component ${chosen[0]}: σ ${text(sigma[chosen[0]])}, gain ${one.toFixed(3)}. ` +
      "Arrow keys choose and change, Delete silences, L locks, Backspace resets.")
  }

  paintGate(gains) {
    const [g, width, height] = context(this.canvas.gate, this.size)
    const left = 34, bottom = 34, top = 8
    const [low, high] = this.data.positionRange
    const tallest = Math.max(1.3, Math.min(4, gains.reduce((a, b) => Math.max(a, b), 0) * 1.05))
    const x = (value) => left + ((value - low) / (high - low || 1)) * (width - left - 10)
    const y = (gain) => top + (height - top - bottom) * (1 - Math.min(gain, tallest) / tallest)
    axis(g, this.ink, left, width - 8, y, ticks(tallest))
    g.strokeStyle = this.ink.text
    g.globalAlpha = 0.4
    line(g, left, y(1), width - 8, y(1))
    g.globalAlpha = 0.35
    g.fillStyle = "#8a94a6"
    for (let i = 0; i < gains.length; i++) g.fillRect(x(this.position[i]) - 1, y(gains[i]) - 1, 2, 2)
    g.globalAlpha = 1
    const module = this.data.modules[this.at]
    const mine = Array.from({ length: module.rank }, (_, k) => module.start + k)
    mine.sort((a, b) => this.position[a] - this.position[b])
    g.strokeStyle = this.ink.accent
    g.beginPath()
    mine.forEach((i, n) => g[n ? "lineTo" : "moveTo"](x(this.position[i]), y(gains[i])))
    g.stroke()
    for (const i of mine) {
      g.fillStyle = this.picked.has(i - module.start) ? "#e0a030" : this.ink.accent
      g.beginPath()
      g.arc(x(this.position[i]), y(gains[i]), 3.2, 0, 7)
      g.fill()
    }
    g.fillStyle = this.ink.text
    g.textAlign = "center"
    for (const value of [low, (low + high) / 2, high]) g.fillText(text(value), Math.min(x(value), width - 16), height - 20)
    g.fillText(this.data.positionLabel, (left + width) / 2, height - 5)
    this.canvas.gate.setAttribute("aria-label", `Gain against ${this.data.positionLabel} of all components`)
  }

  paintMap(gains) {
    const [g, width, height] = context(this.canvas.map, this.size)
    const families = this.data.families
    const gap = 26, top = 18
    const panel = (width - gap * families.length) / families.length
    const boxes = []
    families.forEach((family, f) => {
      const members = this.data.modules.filter((module) => module.family === family)
      const left = gap + f * (panel + gap)
      const row = (height - top - 4) / members.length
      g.fillStyle = this.ink.text
      g.textAlign = "left"
      g.fillText(family, left, 12)
      members.forEach((module, m) => {
        const y = top + m * row, cell = panel / module.rank
        let last = null
        for (let k = 0; k < module.rank; k++) {
          const shown = colour(gains[module.start + k])
          if (shown !== last) g.fillStyle = last = shown
          g.fillRect(left + k * cell, y, Math.max(cell - (cell > 5 ? 1 : 0), 1), Math.max(row - (row > 5 ? 1 : 0), 1))
        }
        if (module.name === this.module) {
          g.strokeStyle = this.ink.text
          g.lineWidth = 2
          g.strokeRect(left - 1, y - 1, panel + 2, row + 1)
          g.lineWidth = 1
        }
        if (m % Math.ceil(members.length / 8) === 0) {
          g.fillStyle = this.ink.text
          g.textAlign = "right"
          g.fillText(module.layer ?? "–", left - 4, y + Math.min(row, 12) / 2 + 5)
        }
        boxes.push({ module, left, top: y, right: left + panel, bottom: y + row, cell })
      })
    })
    this.mapHit = (event) => {
      const [px, py] = where(this.canvas.map, event)
      const box = boxes.find((b) => px >= b.left && px < b.right && py >= b.top && py < b.bottom)
      return box && { module: box.module, component: Math.floor((px - box.left) / box.cell) }
    }
    this.canvas.map.setAttribute("aria-label", `Gains of ${families.join(", ")} by layer and component`)
  }

  barHit(event, component) {
    const { left, cell, high, top, height, module } = this.bars
    const [px, py] = where(this.canvas.bars, event)
    const k = component ?? Math.floor((px - left) / cell)
    if (k < 0 || k >= module.rank) return null
    const sigma = this.sigma[module.start + k]
    const value = Math.max(0, high * (1 - (py - top) / height))
    return { component: k, gain: sigma > 0 ? Math.min(16, Math.round((value / sigma) * 1000) / 1000) : 1 }
  }

  tell(event) {
    const hit = this.barHit(event)
    if (!hit) return this.hush()
    this.say(event, this.data.modules[this.at], hit.component)
  }

  tellMap(event) {
    const hit = this.mapHit?.(event)
    if (!hit) return this.hush()
    this.say(event, hit.module, hit.component)
  }

  say(event, module, k) {
    const i = module.start + k, gain = this.gainsNow()[i]
    const lines = [`${module.label} · component ${k}`, `σ ${text(this.sigma[i])} → σ′ ${text(this.sigma[i] * gain)}  (gain ${gain.toFixed(3)})`]
    if (this.mean.length) lines.push(`mean g ${signed(this.mean[i])} ± ${this.error[i].toFixed(4)}`)
    const manual = this.data.manual[module.name]?.[k]
    if (manual !== undefined) lines.push(`by hand: ${text(manual)}`)
    const tip = this.part("tip")
    showTip(tip, tip.parentElement, event, lines)
  }

  hush() {
    this.part("tip").hidden = true
  }
}

function context(canvas, sizes) {
  const { g, width, height } = sheetOf(canvas, sizes)
  g.font = "11.5px sans-serif"
  return [g, width, height]
}

function axis(g, ink, left, right, y, values) {
  g.textAlign = "right"
  for (const value of values) {
    g.strokeStyle = ink.line
    line(g, left, y(value), right, y(value))
    g.fillStyle = ink.text
    g.fillText(text(value), left - 5, y(value) + 4)
  }
}

function line(g, x0, y0, x1, y1) {
  g.beginPath()
  g.moveTo(x0, y0)
  g.lineTo(x1, y1)
  g.stroke()
}

// log2 of the gain from a quarter to four times, the scale of the other pages' gain maps
const colour = (gain) => SHADES[Math.round(64 * Math.min(4, Math.max(0, Math.log2(Math.max(gain, 1e-6)) + 2)))]
