// The Spectra page: holds every number, repaints each choice by itself, and tells the server when the
// hand rests, so that the address reopens what is shown.
import { element, Files, inkOf, mounted, report, savePng, saveSvg, setOptions, sheetOf, showTip, watch, where } from "../components/sheet.mjs"
import { drawAll, drawOne } from "./figures.mjs"
import { drawDepth, drawStability } from "./profiles.mjs"
import {
  blank, chosen, clicked, figureOf, heightOf, keyed, moduleOf, opened, received, selected, sorted, stepped,
} from "./state.mjs"
import { budgetTable, showList } from "./tables.mjs"
import { factRows, LISTS, needOf, readoutOf, titleOf } from "./words.mjs"

const REST = 400 // ms after the last choice, when it is written to the address
const FIGURES = { all: drawAll, one: drawOne, depth: drawDepth, stability: drawStability }
const SCALES = [["linear", "linear"], ["log", "logarithmic"]]
const RANGES = [["same", "same for all modules"], ["each", "each module to its own"]]

class SpectraPage {
  constructor(root) {
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.root = root.querySelector(".spectra")
    this.canvas = this.part("figure")
    this.state = blank()
    this.files = new Files((question) => this.ask(question))
    this.serial = Date.now()
    this.listen()
    ;[this.sizes, this.stop] = watch([this.canvas], () => this.paint())
  }

  connect(tell, trigger) {
    this.send = (choice) => tell("choice", choice)
    this.ask = (wanted) => trigger("file", wanted)
  }

  unmount() {
    this.stop()
    clearTimeout(this.resting)
    this.files.stop()
  }

  receive(data) {
    const { m, imposed } = this.state
    this.state = received(this.state, data)
    const led = this.state.imposed !== imposed
    if (led) clearTimeout(this.resting)
    this.files.receive(data.file)
    if (!this.files.waiting) this.part("file-note").textContent = "Download"
    if (this.state.m !== m || led) this.paintSoon()
  }

  // a choice is drawn at once and told to the server when the hand rests
  to(next) {
    this.state = next
    this.paintSoon()
    this.tellLater()
  }

  choose(change) {
    this.to(chosen(this.state, change))
  }

  // not while a file is made: another run would break that one off
  tellLater() {
    clearTimeout(this.resting)
    this.resting = setTimeout(() => {
      if (this.files.waiting) this.tellLater()
      // numbered, because a choice that was made before and is made again has to be told again
      else this.send({ ...this.state.choice, number: ++this.serial })
    }, REST)
  }

  listen() {
    const on = (role, event, handle) => this.part(role).addEventListener(event, handle)
    for (const button of this.root.querySelectorAll("[data-view]"))
      button.addEventListener("click", () => this.choose({ view: button.dataset.view }))
    for (const select of this.root.querySelectorAll("[data-choice]"))
      select.addEventListener("change", () => this.to(selected(this.state, select.dataset.choice, select.value)))
    for (const button of this.root.querySelectorAll("[data-file]"))
      button.addEventListener("click", () => this.download(button.dataset.file))
    on("previous", "click", () => this.to(stepped(this.state, -1)))
    on("next", "click", () => this.to(stepped(this.state, 1)))
    on("figure", "pointermove", (e) => this.tip(e))
    on("figure", "pointerleave", () => (this.part("tip").hidden = true))
    on("figure", "click", (e) => {
      const hit = this.under(e)
      if (!hit?.module) return
      this.part("tip").hidden = true
      this.to(clicked(this.state, hit))
    })
    on("figure", "keydown", (e) => {
      const next = keyed(this.state, e.key, e.shiftKey)
      if (!next) return
      if (next !== this.state) this.to(next)
      e.preventDefault()
    })
    this.root.addEventListener("keydown", (e) => {
      if (e.key === "Escape" && this.state.choice?.view !== "all") this.choose({ view: "all" })
    })
  }

  under(event) {
    return this.hit?.(...where(this.canvas, event))
  }

  tip(event) {
    const hit = this.under(event)
    if (!hit) this.part("tip").hidden = true
    else showTip(this.part("tip"), this.root, event, hit.lines)
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
    const { state } = this, { m, choice } = state
    if (!m || !choice || !this.root.isConnected) return
    this.controls()
    this.hit = null
    const figure = FIGURES[figureOf(state)]
    this.layOut(figure ? heightOf(state) : 0)
    const readout = readoutOf(state)
    if (this.part("readout").textContent !== readout) this.part("readout").textContent = readout
    if (!figure) return
    const sheet = sheetOf(this.canvas, this.sizes)
    this.hit = figure(sheet, inkOf(this.root, m.palette), { x: 0, y: 0, width: sheet.width, height: sheet.height }, m, choice, true)
    this.canvas.setAttribute("aria-label", `${titleOf(state)[0]}. ${readout} Arrow keys choose, Enter opens the module, Escape goes back.`)
  }

  // the canvas at this height, or hidden at none
  layOut(height) {
    if (this.canvas.hidden) this.sizes.delete(this.canvas) // what is known of a hidden canvas is that it has no room
    this.canvas.hidden = !height
    const key = `${this.state.choice.view} ${height}`
    if (!height || key === this.laid) return
    this.laid = key
    this.canvas.style.height = `${height}px`
    this.sizes.delete(this.canvas) // another height, and perhaps another width: to be asked for once
  }

  controls() {
    const { m, choice: c } = this.state
    for (const button of this.root.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", button.dataset.view === c.view)
    for (const node of this.root.querySelectorAll("[data-for]")) node.hidden = !node.dataset.for.split(" ").includes(c.view)
    this.root.querySelector(".choices").hidden = c.view === "stability"
    this.selects()
    const [title, sub] = titleOf(this.state), need = needOf(this.state)
    this.part("title").textContent = title
    this.part("sub").textContent = sub
    this.part("need").hidden = !need
    this.part("need").textContent = need
    const drawn = figureOf(this.state) !== null
    for (const button of this.root.querySelectorAll("[data-file]"))
      button.disabled = button.dataset.file === "csv" ? !m.measured && ["lists", "stability"].includes(c.view) : !drawn
    this.facts()
    this.rows()
  }

  selects() {
    const { m, choice: c } = this.state
    const choices = { ...m.data.labels, scale: SCALES, range: RANGES, list: LISTS, module: m.names, family: m.families }
    for (const select of this.root.querySelectorAll("[data-choice]")) {
      const name = select.dataset.choice, options = choices[name]
      if (select.closest("[data-for]").hidden) continue
      if (options !== select.options_) setOptions(select, options, c[name])
      select.options_ = options
      select.value = c[name]
    }
    this.root.querySelector("[data-choice=scale]").disabled = c.view === "all" && !["sigma", "magnitude"].includes(c.show)
    this.root.querySelector("[data-choice=range]").disabled = ["energy", "share", "functional"].includes(c.show)
  }

  facts() {
    const list = this.part("facts"), { m, choice } = this.state, module = moduleOf(this.state)
    list.hidden = choice.view !== "one" || !module
    if (list.hidden) return
    list.replaceChildren(...factRows(m, module, choice.component).flatMap(([name, value]) =>
      value === undefined ? [element("dt", { className: "head", textContent: name })]
        : [element("dt", { textContent: name }), element("dd", { textContent: value })]))
  }

  rows() {
    const box = this.part("rows"), { m, choice: c } = this.state
    const shown = m.measured && (c.view === "lists" || (c.view === "stability" && m.measured.stability.length))
    box.hidden = !shown
    box.classList.toggle("beside", c.view === "stability")
    if (!shown) return
    const key = JSON.stringify([m.data.key, c.view, c.list, c.sort])
    if (box.dataset.key !== key) {
      box.dataset.key = key
      if (c.view === "lists") showList(box, this.state, this.hand())
      else box.replaceChildren(budgetTable(m.measured))
    }
    if (c.view !== "lists") return
    for (const row of box.querySelectorAll("tbody tr"))
      row.setAttribute("aria-selected", row.dataset.module === c.module && Number(row.dataset.component) === c.component)
  }

  hand() {
    return {
      open: (module, component) => this.to(opened(this.state, module, component)),
      sort: (column) => this.to(sorted(this.state, column)),
    }
  }

  // pictures are made here; what needs every digit or a library is asked for
  download(kind) {
    const { m, choice: c } = this.state, picture = { png: savePng, svg: saveSvg }[kind]
    if (!picture) {
      this.part("file-note").textContent = `Making ${kind.toUpperCase()}…`
      this.files.want(kind, { ...c })
      return
    }
    const figure = FIGURES[figureOf(this.state)], [title, sub] = titleOf(this.state), head = 46
    const width = 1200, height = heightOf(this.state) + head
    const stem = `spectra-${c.view === "one" ? c.module.replace(/[^\p{L}\p{N}._]/gu, "-").slice(-80) : c.view}`
    picture(`${stem}.${kind}`, width, height, m.palette, (sheet, ink) => {
      sheet.text(12, 20, title, ink.text, { size: 15, bold: true })
      sheet.text(12, 37, sub, ink.soft)
      figure(sheet, ink, { x: 12, y: head, width: width - 24, height: height - head - 4 }, m, c, false)
    })
  }
}

export default mounted(SpectraPage)
