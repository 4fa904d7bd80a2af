// The maps on the page: k, measure and marks change without a question; the server is asked for other views and for a pair.
import {
  element, Files, hexOf, inkOf, mounted, report, savePng, saveSvg, setOptions, sheetOf, showTip, text, watch, where,
} from "../components/sheet.mjs"
import { cellAt, DOTTED, drawCurve, drawMap } from "./figures.mjs"
import { drawAngles, drawBothSpectra, drawCosines } from "./pair.mjs"
import { atK, blank, cellOf, chosen, moved, received, told, usesK } from "./state.mjs"
import { legendWords, mapLabel, numberRows, sharedRows, tipLines } from "./words.mjs"

const LATER = 400 // ms after which a change that needs no answer is told, for the page's address
const KEYS_REST = 120 // ms after the last arrow key, when the pair is asked for
const HEIGHT = 620, WIDTH = 660 // of a figure in a file

class AlignmentMap {
  constructor(root) {
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.root = root.querySelector(".atlas")
    this.state = blank()
    this.boxes = []
    this.files = new Files((question) => this.ask("file", question))
    this.canvas = {}
    for (const name of ["map", "curve", "angles", "spectra", "cosines"]) this.canvas[name] = this.part(name)
    ;[this.sizes, this.stop] = watch(Object.values(this.canvas), () => this.paint())
    this.listen()
  }

  connect(tell, trigger) {
    this.send = (choice) => tell("choice", choice)
    this.ask = (what, value) => trigger(what, value)
  }

  unmount() {
    this.stop()
    clearTimeout(this.later)
    this.files.stop()
  }

  receive(data) {
    if (data.table?.key !== this.state.table?.key) this.part("tip").hidden = true
    this.state = received(this.state, data)
    this.files.receive(data.file)
    this.controls()
    this.paint()
    this.report("answer")
  }

  report(kind) {
    if (this.asked === undefined) return
    const { asked } = this
    this.asked = undefined
    requestAnimationFrame(() => report(kind, performance.now() - asked))
  }

  // a choice that only redraws what is here is told later; one that needs the server at once
  choose(changes, needed) {
    this.state = chosen(this.state, changes)
    this.asked = performance.now()
    clearTimeout(this.later)
    if (needed) this.tellNow()
    else {
      this.tellLater()
      this.controls()
      this.paint()
      this.report("repaint")
    }
  }

  tellNow() {
    this.state = told(this.state)
    this.send(this.state.words)
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
    on("measure", "change", (e) => this.choose({ measure: e.target.value }, this.state.choice.cell))
    on("k", "input", (e) => this.state.table && this.choose({ k: this.state.table.ks[e.target.value] }, false))
    on("k", "change", () => this.state.choice.cell && this.choose({}, true))
    for (const role of ["ratio", "marks"]) on(role, "change", (e) => this.choose({ [role]: e.target.checked }, false))
    on("map", "click", (e) => {
      const cell = this.hit(e)
      if (cell && cellOf(this.state, ...cell)) this.choose({ cell }, true)
    })
    on("map", "pointermove", (e) => this.tip(e))
    on("map", "pointerleave", () => (this.part("tip").hidden = true))
    on("map", "keydown", (e) => this.key(e))
    for (const which of ["left", "right"]) on(`open-${which}`, "click", () => this.ask("open", this.state.detail[which].name))
    for (const button of this.root.querySelectorAll("[data-file]")) button.onclick = () => this.download(button.dataset.file)
  }

  download(kind) {
    const { data, choice, table } = this.state, picture = { svg: saveSvg, png: savePng }[kind]
    if (!picture) return this.files.want(kind, { ...choice, have: table?.key })
    picture(`${data.name}.${kind}`, WIDTH, HEIGHT, data.palette, (sheet, ink) => drawMap(sheet, ink, this.state))
  }

  key(event) {
    if (event.key === "Escape") return this.choose({ cell: null }, true)
    const next = moved(this.state, event.key)
    if (!next) return
    event.preventDefault()
    this.state = next
    this.paint()
    clearTimeout(this.later)
    this.later = setTimeout(() => this.choose({}, true), KEYS_REST)
  }

  hit(event) {
    return cellAt(this.boxes, ...where(this.canvas.map, event))
  }

  tip(event) {
    const cell = this.hit(event), tip = this.part("tip")
    if (!cell) tip.hidden = true
    else showTip(tip, tip.parentElement, event, tipLines(this.state, ...cell))
  }

  controls() {
    const { data, choice, table } = this.state
    for (const role of ["view", "first", "second", "side", "measure", "group"]) setOptions(this.part(role), data.options[role], choice[role])
    this.part("purpose").textContent = data.purpose
    for (const role of ["first", "second", "group", "measure"]) this.part(role).closest("label").hidden = !data.uses.includes(role)
    const k = this.part("k"), at = table ? atK(this.state) : 0, uses = usesK(this.state) && table
    k.max = table ? table.ks.length - 1 : 0
    k.value = at
    k.disabled = !uses
    this.part("k-shown").textContent = uses ? table.ks[at] : "–"
    this.part("ratio").checked = choice.ratio
    this.part("marks").checked = choice.marks
    const trouble = this.part("trouble")
    trouble.hidden = !data.trouble
    trouble.textContent = data.trouble
    for (const button of this.root.querySelectorAll("[data-file]")) button.disabled = Boolean(data.trouble)
    this.numbers(numberRows(this.state))
    this.details()
  }

  numbers(rows) {
    const list = this.part("numbers")
    list.hidden = !rows
    if (rows)
      list.replaceChildren(...rows.map(([name, value]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))))
  }

  details() {
    const { detail } = this.state
    this.part("detail").hidden = !detail
    if (!detail) return
    this.part("pair").textContent = detail.title
    this.part("said").textContent = detail.said
    const row = (kind, values) => element("tr", {}, ...values.map((value) => element(kind, { textContent: value })))
    const head = row("th", ["coordinate", detail.left.label, detail.right.label, "share"])
    this.part("shared").replaceChildren(head, ...sharedRows(detail).map((values) => row("td", values)))
    for (const which of ["left", "right"]) {
      const button = this.part(`open-${which}`)
      button.textContent = `Spectrum of ${detail[which].label}`
      button.hidden = !detail[which].here || (which === "right" && detail.right.name === detail.left.name)
    }
  }

  paint() {
    const { state } = this
    if (!state.data || !this.root.isConnected) return
    const ink = inkOf(this.root, state.data.palette), sheet = (name) => sheetOf(this.canvas[name], this.sizes)
    this.paintMap(sheet("map"), { ...ink, back: hexOf(ink.back) })
    const curve = state.table?.panels.length === 1 && state.table.panels[0].curve
    this.canvas.curve.hidden = !curve
    if (curve) this.label("curve", `${curve.title}: ${drawCurve(sheet("curve"), ink, state).map(([layer, v]) => `layer ${layer} ${v.toFixed(3)}`).join(", ")}`)
    if (state.detail) this.paintDetail(ink, sheet)
  }

  paintMap(sheet, ink) {
    const { state } = this
    this.boxes = state.table?.panels.length ? drawMap(sheet, ink, state) : []
    if (!this.boxes.length) return
    this.part("legend").textContent = legendWords(state, this.boxes[0].cell >= DOTTED)
    this.label("map", mapLabel(state))
  }

  paintDetail(ink, sheet) {
    const { detail, data, shades } = this.state, { angles, left, right, similarity } = detail
    drawAngles(sheet("angles"), ink, detail)
    this.label("angles", `Principal angles in degrees: ${angles.map((a) => a.toFixed(1)).join(", ")}`)
    drawBothSpectra(sheet("spectra"), ink, detail, data.palette)
    this.label("spectra", `Singular values of both: ${left.sigma.map(text).join(", ")}; ${right.sigma.map(text).join(", ")}`)
    drawCosines(sheet("cosines"), ink, detail, shades)
    this.label("cosines", `Cosines of single components, the largest is ${Math.max(...similarity.flat()).toFixed(3)}`)
  }

  label(name, words) {
    this.canvas[name].setAttribute("aria-label", words)
  }
}

export default mounted(AlignmentMap)
