// The film on the page: it holds every step, so that playing and scrubbing ask the server nothing.
import {
  element, Files, hexOf, inkOf, mounted, report, savePng, saveSvg, setOptions, sheetOf, showTip, watch, where,
} from "../components/sheet.mjs"
import {
  cellUnder, drawCells, drawFamilies, drawFilm, drawSigma, drawTurns, familyLook, stepUnder,
} from "./film_figures.mjs"
import {
  advanced, angleCurves, atEnd, atK, blank, chosen, familyCurve, keyed, measureOf, moduleIn, moduleOf, played, received, sigmaCurves, stood,
} from "./film_state.mjs"
import { curveLabel, legendWords, mapLabel, matchWords, stepWords, tipLines } from "./film_words.mjs"

const FRAME = 700 // ms that a checkpoint is shown while the film plays
const WIDTH = 900, HEIGHT = 620 // of a figure in a file
const ROOM = 86, LARGEST_ROW = 40, LEAST = 130, MOST = 420 // px of the map's canvas

class FilmPage {
  constructor(root) {
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.root = root.querySelector(".film")
    this.state = blank()
    this.files = new Files((question) => this.ask("file", question))
    this.canvas = {}
    for (const name of ["cells", "families", "sigma", "turns"]) this.canvas[name] = this.part(name)
    ;[this.sizes, this.stop] = watch(Object.values(this.canvas), () => this.paint())
    // who asks for less motion is shown one step for each press
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)")
    this.listen()
  }

  connect(_tell, trigger) {
    this.ask = (what, value) => trigger(what, value)
  }

  unmount() {
    this.stop()
    clearTimeout(this.next)
    this.files.stop()
  }

  receive(data) {
    const began = performance.now(), other = this.state.data?.key !== data.key
    this.state = received(this.state, data)
    this.files.receive(data.file)
    if (!other) return
    clearTimeout(this.next)
    this.part("tip").hidden = true
    const { families } = data
    this.canvas.cells.style.height = `${Math.max(LEAST, Math.min(MOST, ROOM + LARGEST_ROW * families.length))}px`
    this.sizes.delete(this.canvas.cells)
    this.controls()
    this.paint()
    requestAnimationFrame(() => report("answer", performance.now() - began))
  }

  // another state is drawn at once, and the time that takes told
  show(state) {
    const asked = performance.now()
    this.state = state
    this.controls()
    this.paint()
    requestAnimationFrame(() => report("repaint", performance.now() - asked))
    clearTimeout(this.next)
    if (state.playing) this.next = setTimeout(() => this.show(advanced(this.state)), FRAME)
  }

  listen() {
    const on = (role, event, handle) => this.part(role).addEventListener(event, handle)
    const choose = (changes) => this.show(chosen(this.state, changes))
    for (const role of ["measure", "side"]) on(role, "change", (e) => choose({ [role]: e.target.value }))
    on("module", "change", (e) => choose({ module: Number(e.target.value) }))
    on("k", "input", (e) => choose({ k: this.state.data.ks[e.target.value] }))
    on("marks", "change", (e) => choose({ marks: e.target.checked }))
    on("step", "input", (e) => this.show({ ...stood(this.state, Number(e.target.value)), playing: false }))
    on("play", "click", () => this.play())
    on("cells", "click", (e) => this.pick(e))
    on("cells", "pointermove", (e) => this.tip(e))
    on("cells", "pointerleave", () => (this.part("tip").hidden = true))
    for (const role of ["families", "sigma", "turns"]) {
      on(role, "pointerdown", (e) => this.scrub(role, e))
      on(role, "pointermove", (e) => e.buttons && this.scrub(role, e))
    }
    this.root.addEventListener("keydown", (e) => this.key(e))
    for (const button of this.root.querySelectorAll("[data-file]")) button.onclick = () => this.download(button.dataset.file)
  }

  play() {
    if (!this.still.matches) return this.show(played(this.state))
    this.show(atEnd(this.state) ? stood(this.state, 0) : stood(this.state, this.state.at + 1))
  }

  // of a control its own keys stay its own; the slider of steps leaves space to us
  key(event) {
    const { target, key } = event, slider = target === this.part("step")
    if (!this.state.data || event.ctrlKey || event.metaKey || event.altKey) return
    if (slider ? key !== " " : target.matches("select, input, button")) return
    if (key === " ") this.play()
    else {
      const next = keyed(this.state, key)
      if (!next) return
      this.show(next)
    }
    event.preventDefault()
  }

  pick(event) {
    const module = moduleIn(this.state, this.under(event))
    if (module !== undefined) this.show(chosen(this.state, { module }))
  }

  scrub(role, event) {
    const place = { x: 0, width: this.canvas[role].clientWidth }, [x] = where(this.canvas[role], event)
    this.show({ ...stood(this.state, stepUnder(this.state, place, x)), playing: false })
  }

  under(event) {
    return this.box && cellUnder(this.box, ...where(this.canvas.cells, event))
  }

  tip(event) {
    const cell = this.under(event), tip = this.part("tip")
    if (cell === undefined) tip.hidden = true
    else showTip(tip, tip.parentElement, event, tipLines(this.state, cell))
  }

  download(kind) {
    const { data, choice, at } = this.state, picture = { svg: saveSvg, png: savePng }[kind]
    if (!picture) return this.files.want(kind, { ...choice, have: data.key, module: moduleOf(this.state)?.name })
    picture(`${data.name}-${choice.measure}-step-${data.steps[at]}.${kind}`, WIDTH, HEIGHT, data.palette, (sheet, ink) => drawFilm(sheet, ink, this.state))
  }

  controls() {
    const { data, choice, at, playing } = this.state, { directed, component } = measureOf(this.state)
    setOptions(this.part("measure"), data.measures.map(({ name, label }) => [name, label]), choice.measure)
    setOptions(this.part("side"), data.sides, choice.side)
    setOptions(this.part("module"), data.modules.map(({ label }, n) => [n, label]), choice.module)
    this.part("k").max = data.ks.length - 1
    this.part("k").value = atK(this.state)
    this.part("k-name").textContent = component ? "Component" : "Directions compared, k"
    this.part("k-shown").textContent = directed ? choice.k : "–"
    this.part("k").disabled = !directed
    this.part("marks").checked = choice.marks
    this.part("step").max = data.steps.length - 1
    this.part("step").value = at
    this.part("step").setAttribute("aria-valuetext", stepWords(this.state))
    this.part("step-shown").textContent = stepWords(this.state)
    this.part("play").textContent = this.still.matches ? "Next step" : playing ? "Pause" : "Play"
    this.part("legend").textContent = legendWords(this.state)
    this.part("matches").textContent = moduleOf(this.state) ? matchWords(this.state) : ""
    this.keys()
  }

  // which line is which family
  keys() {
    const { data } = this.state, list = this.part("keys")
    if (list.dataset.of === data.key) return
    list.dataset.of = data.key
    const line = ({ colour, dash }) => `<svg viewBox="0 0 22 6" aria-hidden="true"><path d="M0 3H22" stroke="${colour}" stroke-width="2.4" stroke-dasharray="${dash.join(" ")}"/></svg>`
    const entry = (words, look) => {
      const made = element("span", { innerHTML: line(look) })
      made.append(words)
      return made
    }
    list.replaceChildren(
      ...data.families.map((family, f) => entry(family, familyLook(data, f))),
      entry("the chosen module's cell", { colour: data.palette.chosen, dash: [1, 3] }),
      ...["dashed: random", "grey: chance level", "dotted, input side: random inside the rows of A"].map((words) => element("span", {}, words)),
    )
  }

  paint() {
    const { state } = this
    if (!state.data || !this.root.isConnected) return
    const ink = inkOf(this.root, state.data.palette)
    const on = (name, draw, shades = ink) => {
      const sheet = sheetOf(this.canvas[name], this.sizes)
      return draw(sheet, shades, state, { x: 0, y: 0, width: sheet.width, height: sheet.height })
    }
    this.box = on("cells", drawCells, { ...ink, back: hexOf(ink.back) })
    on("families", drawFamilies)
    this.label("cells", mapLabel(state))
    this.label("families", curveLabel(state.data.families, state.data.families.map((_, f) => familyCurve(state, f)), state))
    if (!moduleOf(state)) return
    on("sigma", drawSigma)
    on("turns", drawTurns)
    const named = (curves) => curves.map((curve, k) => `${k + 1}: ${curve[state.at]?.toPrecision(4) ?? "–"}`).join(", ")
    this.label("sigma", `Singular values at this step: ${named(sigmaCurves(state))}`)
    this.label("turns", `Angles to the match at the end, in degrees: ${named(angleCurves(state))}`)
  }

  label(name, words) {
    this.canvas[name].setAttribute("aria-label", words)
  }
}

export default mounted(FilmPage)
