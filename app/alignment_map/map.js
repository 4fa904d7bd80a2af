// Maps of how modules align. The server computes every value for every k; this draws them, lets k,
// measure and marks change without a question, and asks the server for other views and for a pair.
const maps = new WeakMap()

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let map = maps.get(parentElement)
  if (!map) {
    map = new AlignmentMap(parentElement)
    maps.set(parentElement, map)
  }
  map.send = (choice) => setStateValue("choice", choice)
  map.ask = (what, value) => setTriggerValue(what, value)
  map.receive(data)
  return () => map.unmount()
}

const SHARE = shades(["#20243f", "#3b4a94", "#3f8fae", "#7fcf9f", "#f6f3b0"])
const UNKNOWN = 65535, UNIT = 65534 // values travel as whole numbers of 1/65534
const LATER = 400 // ms after which a change that needs no answer is told, for the page's address
const HEIGHT = 620, WIDTH = 660 // of a figure in a file

class AlignmentMap {
  constructor(root) {
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.root = root.querySelector(".atlas")
    this.serial = 0
    this.files = new Files((question) => this.ask("file", question))
    this.canvas = {}
    for (const name of ["map", "curve", "angles", "spectra", "cosines"]) this.canvas[name] = this.part(name)
    ;[this.sizes, this.stop] = watch(Object.values(this.canvas), () => this.paint())
    this.listen()
  }

  unmount() {
    this.stop()
    clearTimeout(this.later)
    this.files.stop()
    maps.delete(this.root.parentNode)
  }

  receive(data) {
    this.data = data
    if (data.table?.key !== this.table?.key) this.part("tip").hidden = true
    if (data.table) {
      this.table = data.table
      for (const panel of this.table.panels) {
        panel.principal = shorts(panel.principal)
        panel.overlap = shorts(panel.overlap)
      }
    }
    if (data.serial >= this.serial || !this.choice) {
      this.serial = data.serial
      // what was changed since and not told yet stays
      if (!this.untold) this.choice = data.choice
      this.detail = data.detail
    }
    this.files.receive(data.file)
    this.controls()
    this.paint()
    this.told("answer")
  }

  told(kind) {
    if (this.asked === undefined) return
    const asked = this.asked
    this.asked = undefined
    requestAnimationFrame(() => report(kind, performance.now() - asked))
  }

  // a choice that only redraws what is here is told later; one that needs the server at once
  choose(changes, needed) {
    this.choice = { ...this.choice, ...changes }
    this.asked = performance.now()
    clearTimeout(this.later)
    this.untold = true
    if (needed) this.tellNow()
    else {
      this.tellLater()
      this.controls()
      this.paint()
      this.told("repaint")
    }
  }

  tellNow() {
    this.untold = false
    this.send({ ...this.choice, serial: ++this.serial, have: this.table?.key })
  }

  // not while a file is made: another run would break that one off
  tellLater() {
    clearTimeout(this.later)
    this.later = setTimeout(() => (this.files.waiting ? this.tellLater() : this.tellNow()), LATER)
  }

  listen() {
    const on = (role, event, handle) => this.part(role).addEventListener(event, handle)
    for (const role of ["view", "first", "second", "side", "group"])
      on(role, "change", (e) => this.choose({ [role]: e.target.value, cell: null }, true))
    on("measure", "change", (e) => this.choose({ measure: e.target.value }, this.choice.cell))
    on("k", "input", (e) => this.table && this.choose({ k: this.table.ks[e.target.value] }, false))
    on("k", "change", () => this.choice.cell && this.choose({}, true))
    for (const role of ["ratio", "marks"]) on(role, "change", (e) => this.choose({ [role]: e.target.checked }, false))
    on("map", "click", (e) => {
      const cell = this.hit?.(e)
      if (cell && this.cell(...cell)) this.choose({ cell }, true)
    })
    on("map", "pointermove", (e) => this.tell(e))
    on("map", "pointerleave", () => (this.part("tip").hidden = true))
    on("map", "keydown", (e) => this.key(e))
    for (const which of ["left", "right"]) on(`open-${which}`, "click", () => this.ask("open", this.detail[which].name))
    for (const button of this.root.querySelectorAll("[data-file]"))
      button.onclick = () => {
        const { file } = button.dataset, { name } = this.data
        if (file === "svg") saveSvg(`${name}.svg`, WIDTH, HEIGHT, (sheet, ink) => this.paintMap(sheet, ink))
        else if (file === "png") savePng(`${name}.png`, WIDTH, HEIGHT, (sheet, ink) => this.paintMap(sheet, ink))
        else this.files.want(file, { ...this.choice, have: this.table?.key })
      }
  }

  key(event) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key]
    if (event.key === "Escape") return this.choose({ cell: null }, true)
    if (!step || !this.table?.panels.length) return
    event.preventDefault()
    const [p, i, j] = this.choice.cell ?? [0, -step[0], -step[1]]
    const panel = this.table.panels[p], clamp = (at, size) => Math.min(size - 1, Math.max(0, at))
    const cell = [p, clamp(i + step[0], panel.rows.length), clamp(j + step[1], panel.columns.length)]
    this.choice = { ...this.choice, cell }
    this.untold = true
    this.paint()
    clearTimeout(this.later)
    // the pair is asked for when the keys rest
    this.later = setTimeout(() => this.choose({}, true), 120)
  }

  controls() {
    const { data, choice, table } = this
    for (const role of ["view", "first", "second", "side", "measure", "group"]) fill(this.part(role), data.options[role], choice[role])
    this.part("purpose").textContent = data.purpose
    for (const role of ["first", "second", "group", "measure"]) this.part(role).closest("label").hidden = !data.uses.includes(role)
    const k = this.part("k"), at = table ? Math.max(0, table.ks.indexOf(choice.k)) : 0
    k.max = table ? table.ks.length - 1 : 0
    k.value = at
    k.disabled = !this.overlaps || !table
    this.part("k-shown").textContent = this.overlaps && table ? table.ks[at] : "–"
    this.part("ratio").checked = choice.ratio
    this.part("marks").checked = choice.marks
    const trouble = this.part("trouble")
    trouble.hidden = !data.trouble
    trouble.textContent = data.trouble
    for (const button of this.root.querySelectorAll("[data-file]")) button.disabled = Boolean(data.trouble)
    this.numbers()
    this.details()
  }

  get overlaps() {
    return this.choice.measure === "overlap" || this.choice.view === "wall"
  }

  get at() {
    return Math.max(0, this.table.ks.indexOf(this.choice.k))
  }

  // of what the server says for principal similarity once and for overlap at every k, the part that is shown
  of(both, panel) {
    return panel.measure === "principal" || (!panel.measure && this.choice.measure === "principal") ? both.principal : both.overlap[this.at]
  }

  numbers() {
    const list = this.part("numbers")
    list.hidden = !this.table || this.table.panels.length !== 1
    if (list.hidden) return
    const { mean, ratio, above, cells, where } = this.of(this.table.panels[0].summary, this.table.panels[0])
    const rows = [
      [`Mean ${where}`, mean === null ? "–" : mean.toFixed(3)],
      ["Against random", ratio === null ? "–" : `${ratio.toFixed(1)}×`],
      ["Beyond random", `${above.toLocaleString("en")} of ${cells.toLocaleString("en")}`],
      ["Expected by luck", (this.data.level * cells).toFixed(1)],
    ]
    list.replaceChildren(...rows.map(([name, value]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))))
  }

  // what a panel shows now: codes row by row, and each row's random reference and chance level
  shown(p) {
    const panel = this.table.panels[p], cells = panel.rows.length * panel.columns.length, { at } = this
    const principal = (panel.measure || this.choice.measure) === "principal"
    const of = (kind) => panel.space.map((space) => {
      const { principal: one, overlap: all } = this.table.random[space][kind]
      return principal ? one : all[at]
    })
    const codes = principal ? panel.principal : panel.overlap.subarray(at * cells, (at + 1) * cells)
    return { codes, reference: of("reference"), chance: of("chance") }
  }

  // value, random reference and chance level of one cell; null where there is none
  cell(p, i, j) {
    const { codes, reference, chance } = this.shown(p), code = codes[i * this.table.panels[p].columns.length + j]
    return code === UNKNOWN || code === undefined ? null : { value: code / UNIT, reference: reference[i], chance: chance[i] }
  }

  paint() {
    if (!this.data || !this.root.isConnected) return
    const ink = inkOf(this.root)
    this.paintMap(sheetOf(this.canvas.map, this.sizes), ink, true)
    this.paintCurve(ink)
    this.paintDetail(ink)
  }

  paintMap(sheet, ink, live = false) {
    const { table, choice } = this
    if (!table?.panels.length) return (this.hit = null)
    const many = table.panels.length > 1
    const across = many ? 4 : 1, down = Math.ceil(table.panels.length / across)
    const width = (sheet.width - 4) / across, height = sheet.height / down
    const boxes = []
    if (!many) sheet.text(0, 15, this.table.panels[0].title, ink.text, { size: 14, bold: true })
    table.panels.forEach((panel, p) => {
      boxes.push(this.paintPanel(sheet, ink, p, { x: (p % across) * width, y: Math.floor(p / across) * height, width, height, many }))
    })
    if (!live) return
    this.hit = (event) => {
      const [x, y] = where(this.canvas.map, event)
      const box = boxes.find((b) => x >= b.left && x < b.left + b.columns * b.cell && y >= b.top && y < b.top + b.rows * b.cell)
      return box && [box.p, Math.floor((y - box.top) / box.cell), Math.floor((x - box.left) / box.cell)]
    }
    this.boxes = boxes
    const drawn = boxes[0]
    this.part("legend").textContent = choice.marks
      ? `${drawn.cell >= 7 ? "Dotted, faded" : "Faded"} cells are not distinguishable from random subspaces (one-sided, ${this.data.level * 100} % per cell). ` + this.data.legend
      : this.data.legend
    const [p, i, j] = choice.cell ?? []
    const chosen = choice.cell && this.cell(p, i, j)
    this.canvas.map.setAttribute("aria-label", `${table.panels[p ?? 0].title}. ` + (chosen
      ? `${table.panels[p].rows[i]}, ${table.panels[p].columns[j]}: ${chosen.value.toFixed(3)}, ${(chosen.value / chosen.reference).toFixed(1)} times random. `
      : "") + "Arrow keys choose a pair, Escape lets it go.")
  }

  paintPanel(sheet, ink, p, place) {
    const { table, choice } = this, panel = table.panels[p]
    const rows = panel.rows.length, columns = panel.columns.length
    const left = place.x + (place.many ? 20 : 62), top = place.y + (place.many ? 18 : 30)
    const room = Math.min(place.width - (place.many ? 26 : 62 + 64), place.height - (place.many ? 24 : 30 + 44))
    const cell = room / Math.max(rows, columns)
    const values = this.colours(p), { codes, reference, chance } = this.shown(p)
    const pixels = new Uint8ClampedArray(rows * columns * 4), back = [1, 3, 5].map((n) => parseInt(hex(ink.back).slice(n, n + 2), 16))
    const faded = SHARE.map((shade) => shade.map((v, c) => v * 0.35 + back[c] * 0.65)), dots = []
    for (let i = 0, n = 0; i < rows; i++)
      for (let j = 0; j < columns; j++, n++) {
        if (codes[n] === UNKNOWN) continue
        const value = codes[n] / UNIT, random = choice.marks && value <= chance[i]
        const shade = (random ? faded : SHARE)[values.place(value, reference[i])]
        pixels[4 * n] = shade[0]
        pixels[4 * n + 1] = shade[1]
        pixels[4 * n + 2] = shade[2]
        pixels[4 * n + 3] = 255
        if (random && cell >= 7) dots.push([i, j])
      }
    sheet.image(left, top, columns * cell, rows * cell, columns, rows, pixels)
    for (const [i, j] of dots) sheet.dot(left + (j + 0.5) * cell, top + (i + 0.5) * cell, 1.1, ink.soft)
    const box = { p, left, top, cell, rows, columns }
    if (place.many) {
      sheet.text(left, top - 5, panel.title, ink.text, { size: 10.5 })
      if (place.x === 0) for (const at of [0, rows - 1]) sheet.text(left - 4, top + (at + 0.5) * cell + 4, panel.ticks.rows[at], ink.text, { align: "right", size: 10 })
    } else this.axes(sheet, ink, panel, box, values)
    if (choice.cell?.[0] === p) {
      const [, i, j] = choice.cell
      if (i < rows && j < columns) sheet.frame(left + j * cell - 1, top + i * cell - 1, cell + 2, cell + 2, "#e0702a", 2.5)
    }
    return box
  }

  // how values become colours: cut at the largest value between different modules
  colours(p) {
    const panel = this.table.panels[p], { ratio } = this.choice, { codes, reference } = this.shown(p)
    const columns = panel.columns.length
    let high = 0
    reference.forEach((random, i) => {
      let most = 0
      for (let j = 0; j < columns; j++) {
        const code = codes[i * columns + j]
        if (code !== UNKNOWN && code > most && !(panel.same && i === j)) most = code
      }
      if (most) high = Math.max(high, Math.max(most / UNIT, 4 * random) / (ratio ? random : 1))
    })
    high = Math.min(high || 1, ratio ? Infinity : 1)
    const scale = 256 / Math.log(high / 0.5)
    const place = (value, random) =>
      Math.min(256, Math.max(0, Math.round(ratio ? Math.log(Math.max(value / random, 0.5) / 0.5) * scale : (256 * value) / high)))
    return { high, place }
  }

  axes(sheet, ink, panel, { left, top, cell, rows, columns }, { high }) {
    const every = (count) => Math.max(1, Math.ceil((14 * count) / (count * cell)))
    const bottom = top + rows * cell, right = left + columns * cell
    if (panel.groups) {
      for (const { from, to, label } of panel.groups) {
        const middle = ((from + to) / 2) * cell
        if (from) {
          sheet.path([[left, top + from * cell], [right, top + from * cell]], ink.back, { thick: 1.2 })
          sheet.path([[left + from * cell, top], [left + from * cell, bottom]], ink.back, { thick: 1.2 })
        }
        if ((to - from) * cell < 9) continue
        sheet.text(left - 5, top + middle + 4, label, ink.text, { align: "right", size: 10.5 })
        sheet.text(left + middle, bottom + 14, label, ink.text, { align: "center", size: (to - from) * cell < 50 ? 8.5 : 10.5 })
      }
    } else {
      const [r, c] = [every(rows), every(columns)]
      for (let i = 0; i < rows; i += r) sheet.text(left - 5, top + (i + 0.5) * cell + 4, panel.ticks.rows[i], ink.text, { align: "right", size: 10.5 })
      for (let j = 0; j < columns; j += c) sheet.text(left + (j + 0.5) * cell, bottom + 14, panel.ticks.columns[j], ink.text, { align: "center", size: 10.5 })
    }
    sheet.text((left + right) / 2, bottom + 32, panel.x, ink.text, { align: "center", size: 12 })
    sheet.text(12, (top + bottom) / 2, panel.y, ink.text, { align: "center", size: 12, turn: -90 })
    const bar = { x: right + 12, y: top, width: 11, height: bottom - top }, pixels = new Uint8ClampedArray(257 * 4)
    for (let n = 0; n < 257; n++) pixels.set([...SHARE[256 - n], 255], n * 4)
    sheet.image(bar.x, bar.y, bar.width, bar.height, 1, 257, pixels)
    const { ratio } = this.choice
    const marks = ratio ? [0.5, 1, 2, 4, 8, 16, 32, 64, 128].filter((v) => v <= high) : ticks(high)
    for (const value of marks) {
      const share = ratio ? Math.log(value / 0.5) / Math.log(high / 0.5) : value / high
      sheet.text(bar.x + 15, bar.y + bar.height * (1 - share) + 4, ratio ? `${value}×` : text(value), ink.text, { size: 10.5 })
    }
    sheet.text(bar.x, bar.y - 7, ratio ? "× random" : panel.label[this.choice.measure], ink.text, { size: 10.5 })
  }

  paintCurve(ink) {
    const canvas = this.canvas.curve, panel = this.table?.panels[0]
    canvas.hidden = !panel?.curve || this.table.panels.length > 1
    if (canvas.hidden) return
    const sheet = sheetOf(canvas, this.sizes), values = this.of(panel.curve, panel)
    const random = this.table.random[panel.space[0]]
    const principal = this.choice.measure === "principal"
    const reference = principal ? random.reference.principal : random.reference.overlap[this.at]
    const chance = principal ? random.chance.principal : random.chance.overlap[this.at]
    const left = 40, right = sheet.width - 8, top = 24, bottom = sheet.height - 34
    const high = Math.max(...values.filter((v) => v !== null), chance) * 1.08
    const x = (i) => left + ((right - left) * (i + 0.5)) / values.length, y = (v) => bottom - ((bottom - top) * v) / high
    sheet.text(0, 13, panel.curve.title, ink.text, { size: 12.5, bold: true })
    for (const value of ticks(high)) {
      sheet.path([[left, y(value)], [right, y(value)]], ink.line)
      sheet.text(left - 5, y(value) + 4, text(value), ink.text, { align: "right", size: 10.5 })
    }
    sheet.rect(left, y(chance), right - left, y(0) - y(chance), ink.soft, 0.18)
    sheet.path([[left, y(reference)], [right, y(reference)]], ink.soft, { dash: [5, 4], thick: 1.4 })
    const known = values.map((v, i) => [v, i]).filter(([v]) => v !== null)
    sheet.path(known.map(([v, i]) => [x(i), y(v)]), ink.accent, { thick: 1.8 })
    for (const [v, i] of known) sheet.dot(x(i), y(v), 2.2, ink.accent)
    const step = Math.max(1, Math.ceil(values.length / 12))
    for (let i = 0; i < values.length; i += step) sheet.text(x(i), bottom + 14, panel.ticks.rows[i], ink.text, { align: "center", size: 10.5 })
    sheet.text((left + right) / 2, bottom + 29, "layer · dashed: random, grey: chance level", ink.text, { align: "center", size: 10.5 })
    canvas.setAttribute("aria-label", `${panel.curve.title}: ${known.map(([v, i]) => `layer ${panel.ticks.rows[i]} ${v.toFixed(3)}`).join(", ")}`)
  }

  details() {
    const { detail } = this
    this.part("detail").hidden = !detail
    if (!detail) return
    this.part("pair").textContent = detail.title
    this.part("said").textContent = detail.said
    const head = element("tr", {}, ...["coordinate", detail.left.label, detail.right.label, "share"].map((name) => element("th", { textContent: name })))
    const rows = detail.shared.map((row) => element("tr", {}, ...[row[0], row[1].toFixed(3), row[2].toFixed(3), row[3] === null ? "–" : `${(100 * row[3]).toFixed(0)} %`].map((value) => element("td", { textContent: value }))))
    this.part("shared").replaceChildren(head, ...rows)
    for (const which of ["left", "right"]) {
      const button = this.part(`open-${which}`)
      button.textContent = `Spectrum of ${detail[which].label}`
      button.hidden = !detail[which].here || (which === "right" && detail.right.name === detail.left.name)
    }
  }

  paintDetail(ink) {
    if (!this.detail) return
    const { angles, left, right, similarity, random } = this.detail
    let sheet = sheetOf(this.canvas.angles, this.sizes)
    const plot = (title, unit, high, count) => {
      const box = { left: 40, right: sheet.width - 6, top: 20, bottom: sheet.height - 18 }
      sheet.text(0, 12, title, ink.text, { size: 12, bold: true })
      const y = (v) => box.bottom - ((box.bottom - box.top) * v) / high
      for (const value of unit === "°" ? [0, 45, 90] : ticks(high)) {
        sheet.path([[box.left, y(value)], [box.right, y(value)]], ink.line)
        sheet.text(box.left - 5, y(value) + 4, text(value) + unit, ink.text, { align: "right", size: 10.5 })
      }
      const cell = (box.right - box.left) / count
      for (let i = 0; i < count; i += Math.ceil(count / 16)) sheet.text(box.left + (i + 0.5) * cell, box.bottom + 13, i, ink.text, { align: "center", size: 10.5 })
      return [(i) => box.left + i * cell, y, cell]
    }
    let [x, y, cell] = plot("Principal angles", "°", 90, angles.length)
    angles.forEach((angle, i) => sheet.rect(x(i) + cell * 0.2, y(angle), cell * 0.6, Math.max(1, y(0) - y(angle)), ink.accent))
    random.forEach((angle, i) => sheet.path([[x(i), y(angle)], [x(i) + cell, y(angle)]], ink.text, { thick: 1.5, dash: [3, 2] }))
    this.canvas.angles.setAttribute("aria-label", `Principal angles in degrees: ${angles.map((a) => a.toFixed(1)).join(", ")}`)
    sheet = sheetOf(this.canvas.spectra, this.sizes)
    const count = Math.max(left.sigma.length, right.sigma.length)
    ;[x, y, cell] = plot(`σ: ${left.label} (blue), ${right.label} (teal)`, "", Math.max(...left.sigma, ...right.sigma) * 1.05, count)
    ;[[left, "#5b6ee1", 0.08], [right, "#0f8a8a", 0.52]].forEach(([side, colour, shift]) =>
      side.sigma.forEach((s, i) => sheet.rect(x(i) + cell * shift, y(s), cell * 0.4, y(0) - y(s), colour)))
    this.canvas.spectra.setAttribute("aria-label", `Singular values of both: ${left.sigma.map(text).join(", ")}; ${right.sigma.map(text).join(", ")}`)
    sheet = sheetOf(this.canvas.cosines, this.sizes)
    sheet.text(0, 12, "|cosine| of single components", ink.text, { size: 12, bold: true })
    const rows = similarity.length, columns = similarity[0].length
    const size = Math.min((sheet.width - 120) / columns, (sheet.height - 40) / rows), pixels = new Uint8ClampedArray(rows * columns * 4)
    similarity.forEach((row, i) => row.forEach((v, j) => pixels.set([...SHARE[Math.round(256 * Math.min(1, v))], 255], (i * columns + j) * 4)))
    sheet.image(26, 22, columns * size, rows * size, columns, rows, pixels)
    sheet.text(20, 22 + size, "0", ink.text, { align: "right", size: 10.5 })
    sheet.text(20, 22 + rows * size, rows - 1, ink.text, { align: "right", size: 10.5 })
    sheet.text(26, 22 + rows * size + 13, `components 0 … ${columns - 1} of ${right.label}`, ink.text, { size: 10.5 })
    const top = Math.max(...similarity.flat())
    sheet.text(34 + columns * size, 34, `largest ${top.toFixed(2)}`, ink.text, { size: 10.5 })
    this.canvas.cosines.setAttribute("aria-label", `Cosines of single components, the largest is ${top.toFixed(3)}`)
  }

  tell(event) {
    const cell = this.hit?.(event), tip = this.part("tip")
    if (!cell) return (tip.hidden = true)
    const [p, i, j] = cell, panel = this.table.panels[p], found = this.cell(p, i, j)
    const measure = panel.label[panel.measure || this.choice.measure]
    showTip(tip, tip.parentElement, event, found
      ? [panel.rows[i], panel.columns[j], `${measure} ${found.value.toFixed(3)} · ${(found.value / found.reference).toFixed(1)} × random`,
        found.value <= found.chance ? "not distinguishable from random" : `chance level ${found.chance.toFixed(4)}`]
      : [panel.rows[i], panel.columns[j], "no value: other dimensions, or fewer components than k"])
  }
}

function hex(colour) {
  const g = element("canvas").getContext("2d")
  g.fillStyle = colour.trim()
  return g.fillStyle
}
