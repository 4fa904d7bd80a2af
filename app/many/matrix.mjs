// The matrix on the page: the server sends one view of it and hears which pair is looked at or opened.
import { hexOf, inkOf, mounted, report, savePng, saveSvg, sheetOf, showTip, watch, where } from "../components/sheet.mjs"
import { decoded, drawMatrix, hit, layout, legendWords, matrixLabel, tipLines } from "./matrix_figure.mjs"

const KEYS_REST = 150 // ms after the last arrow key, when the pair is asked for
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }
const WIDTH = 900, HEIGHT = 720 // of a figure in a file

class MemberMatrix {
  constructor(root) {
    this.root = root.querySelector(".members")
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.canvas = this.part("matrix")
    ;[this.sizes, this.stop] = watch([this.canvas], () => this.paint())
    this.listen()
  }

  connect(_, trigger) {
    this.ask = trigger
  }

  unmount() {
    this.stop()
    clearTimeout(this.later)
  }

  receive(data) {
    this.state = decoded(data)
    this.canvas.style.height = `${data.height}px`
    this.part("tip").hidden = true
    this.paint()
    if (this.asked === undefined) return
    const { asked } = this
    this.asked = undefined
    requestAnimationFrame(() => report("answer", performance.now() - asked))
  }

  listen() {
    const on = (event, handle) => this.canvas.addEventListener(event, handle)
    on("click", (event) => this.pick(this.cell(event)))
    on("dblclick", (event) => this.open(this.cell(event)))
    on("pointermove", (event) => this.tip(event))
    on("pointerleave", () => (this.part("tip").hidden = true))
    on("keydown", (event) => this.key(event))
    for (const button of this.root.querySelectorAll("[data-file]")) button.onclick = () => this.download(button.dataset.file)
  }

  cell(event) {
    return this.box ? hit(this.box, ...where(this.canvas, event)) : null
  }

  pick(cell, rest = 0) {
    if (!cell) return
    this.state = { ...this.state, selected: cell.map((at) => this.state.names[at]) }
    this.asked = performance.now()
    this.paint()
    clearTimeout(this.later)
    this.later = setTimeout(() => this.ask("pair", this.state.selected), rest)
  }

  open(cell) {
    if (!cell || cell[0] === cell[1]) return
    clearTimeout(this.later)
    this.ask("open", cell.map((at) => this.state.names[at]))
  }

  key(event) {
    const { names, selected } = this.state, at = selected?.map((name) => names.indexOf(name)) ?? [0, 0]
    if (event.key === "Enter" && selected) return this.open(at)
    const step = STEPS[event.key]
    if (!step) return
    event.preventDefault()
    this.pick(at.map((place, axis) => Math.min(names.length - 1, Math.max(0, place + (selected ? step[axis] : 0)))), KEYS_REST)
  }

  tip(event) {
    const cell = this.cell(event), tip = this.part("tip")
    if (!cell) tip.hidden = true
    else showTip(tip, this.root, event, tipLines(this.state, ...cell))
  }

  download(kind) {
    const { state } = this, save = { svg: saveSvg, png: savePng }[kind]
    save(`${state.name}.${kind}`, WIDTH, HEIGHT, state.palette, (sheet, ink) => drawMatrix(sheet, ink, { ...state, selected: null }))
  }

  paint() {
    if (!this.state || !this.root.isConnected) return
    const sheet = sheetOf(this.canvas, this.sizes), ink = inkOf(this.root, this.state.palette)
    this.box = drawMatrix(sheet, { ...ink, back: hexOf(ink.back) }, this.state)
    this.part("legend").textContent = legendWords(this.state, layout(this.state, sheet.width, sheet.height).cell)
    this.canvas.setAttribute("aria-label", matrixLabel(this.state))
  }
}

export default mounted(MemberMatrix)
