// The board on the page: hands what a person does to the state, paints what the state says, tells the server.
import { element, inkOf, mounted, report, setOptions, sheetOf, showTip, watch, where } from "../components/sheet.mjs"
import { barAt, drawBars, drawGains, drawGate, gainAt } from "./figures.mjs"
import { knobField, setKnob } from "./knobs.mjs"
import {
  acted, allPicked, armed, blank, byHand, dropped, expectationNow, gainsNow, grabbed, keyed, letGo, moduleOf, numbersNow, opened,
  pulled, pulling, received, slid, stepped, turned,
} from "./state.mjs"
import { doubtsOf, handWords, numberRows, tipLines } from "./words.mjs"

const QUIET = 500 // ms without an act, after which the page around the board is brought up to date

class Board {
  constructor(root) {
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.root = root.querySelector(".board")
    this.canvas = {}
    for (const name of ["bars", "gate", "map"]) this.canvas[name] = this.part(name)
    this.state = blank(Date.now())
    this.shown = {} // which knobs stand in a box
    this.boxes = []
    this.listen()
    // undo and redo are acts like all others, so that quick presses all count
    this.onKey = (e) => {
      if (!(e.ctrlKey || e.metaKey) || e.key.toLowerCase() !== "z" || /TEXTAREA/.test(document.activeElement?.tagName)) return
      e.preventDefault()
      this.act(e.shiftKey ? "redo" : "undo")
    }
    document.addEventListener("keydown", this.onKey)
    ;[this.size, this.stop] = watch(Object.values(this.canvas), () => this.paint())
  }

  connect(tell, trigger) {
    this.send = (acts) => tell("acts", acts)
    this.arm = (knob) => trigger("arm", knob)
    this.rest = () => trigger("rest", true)
    this.inside = (component) => trigger("inside", component)
  }

  unmount() {
    this.stop()
    clearTimeout(this.resting)
    document.removeEventListener("keydown", this.onKey)
  }

  // a step of the hand; what it asks of the server is sent, and `kind` names the repaint it causes
  to(next, kind) {
    const asks = next.waiting !== this.state.waiting
    this.state = next
    if (asks) {
      this.asked = performance.now()
      clearTimeout(this.resting)
      this.part("numbers").classList.add("pending")
      this.send(next.waiting)
    }
    if (kind) this.paintSoon(kind)
  }

  act(type, detail) {
    this.to(acted(this.state, type, detail))
  }

  receive(data) {
    const known = this.state.data
    this.state = received(this.state, data)
    const answered = !this.state.waiting.length
    if (answered) {
      this.part("numbers").classList.remove("pending")
      this.controls()
    }
    if (known?.modules.length !== data.modules.length || known.scope !== data.scope)
      setOptions(this.part("module"), data.modules.map((module) => [module.name, module.label]), this.state.module)
    this.paint()
    if (this.asked && answered) {
      const { asked } = this
      this.asked = null
      requestAnimationFrame(() => report("confirm", performance.now() - asked))
      this.settle()
    }
  }

  // an act reruns the board alone; what else the page shows follows when the hand rests
  settle() {
    clearTimeout(this.resting)
    this.resting = setTimeout(() => {
      if (this.state.held || document.querySelector('[role="dialog"]')) this.settle()
      else this.rest()
    }, QUIET)
  }

  controls() {
    const { data } = this.state
    this.part("undo").disabled = data.at === 0
    this.part("redo").disabled = data.at === data.steps - 1
    this.part("step").textContent = this.part("step").title = `${data.at + 1} of ${data.steps}: ${data.step}`
    setOptions(this.part("policy"), data.policies.map((p) => [p.name, p.name]), data.policy)
    this.part("policy-title").textContent = data.policies.find((p) => p.name === data.policy).title
    setOptions(this.part("energy"), data.energies, data.energy)
    const floor = this.part("sigma-min")
    if (!floor.dirty) floor.value = data.sigmaMin
    this.part("source").textContent = data.source
    this.part("best").disabled = !data.measured
    this.knobs("knobs", data.policy, data.knobs)
    this.knobs("groups", "", data.groups)
    // one line, whatever it says: the sliders below it must not move under the hand
    this.part("groups-told").textContent = this.part("groups-told").title = data.groupsTold || "all at 1"
    this.part("ungroup").disabled = !data.groupsTold
    const skipped = this.part("skipped")
    skipped.hidden = !data.skipped
    skipped.textContent = data.skipped
    this.part("gate-title").textContent = data.gateTitle
    this.part("inside").disabled = !data.measured
    this.part("reset-all").disabled = !Object.keys(data.manual).length
  }

  knobs(role, whose, knobs) {
    const box = this.part(role), key = JSON.stringify([whose, knobs.map((knob) => knob.name)])
    if (key !== this.shown[role]) {
      this.shown[role] = key
      box.replaceChildren(...knobs.map((knob) => knobField(knob, this.hand())))
    }
    knobs.forEach((knob, i) => {
      const field = box.children[i]
      field.hidden = knob.idle
      if (!this.state.held || this.state.drag?.knob !== knob.name) setKnob(field, knob)
    })
  }

  hand() {
    const arm = (name) => {
      const next = armed(this.state, name)
      if (next === this.state) return
      this.to(next)
      this.arm(name)
    }
    return {
      arm,
      change: (knob, value) => this.to(turned(this.state, knob, value)),
      hold: (held) => this.to({ ...this.state, held }),
      slide: (knob, value) => {
        arm(knob.name)
        this.to(slid(this.state, knob, value), "drag")
      },
    }
  }

  listen() {
    const on = (role, event, handle) => this.part(role).addEventListener(event, handle)
    for (const role of ["gain", "sigma-min"]) {
      // what is being typed is not written over; Enter hands the field back
      on(role, "input", (e) => (e.target.dirty = true))
      on(role, "change", (e) => (e.target.dirty = false))
    }
    on("undo", "click", () => this.act("undo"))
    on("redo", "click", () => this.act("redo"))
    on("best", "click", () => this.act("best"))
    on("ungroup", "click", () => this.act("ungroup"))
    on("policy", "change", (e) => this.act("policy", { value: e.target.value }))
    on("energy", "change", (e) => this.act("energy", { value: e.target.value }))
    on("sigma-min", "change", (e) => this.act("sigma_min", { value: Number(e.target.value) }))
    on("module", "change", (e) => this.show(opened(this.state, e.target.value)))
    on("previous", "click", () => this.show(stepped(this.state, -1)))
    on("next", "click", () => this.show(stepped(this.state, 1)))
    on("all", "click", () => this.to(allPicked(this.state), "select"))
    on("silence", "click", () => this.to(byHand(this.state, 0)))
    on("lock", "click", () => this.to(byHand(this.state, "lock")))
    on("reset", "click", () => this.to(byHand(this.state, null)))
    on("reset-all", "click", () => this.act("forget"))
    on("inside", "click", () => this.inside({ module: this.state.module, component: Math.min(...this.state.picked) }))
    on("gain", "change", (e) => e.target.value !== "" && this.to(byHand(this.state, Number(e.target.value))))
    this.listenToFigures(on)
  }

  listenToFigures(on) {
    on("bars", "pointerdown", (e) => this.grab(e))
    on("bars", "pointermove", (e) => (pulling(this.state) ? this.pull(e) : this.tell(e, this.barHit(e), moduleOf(this.state))))
    on("bars", "pointerup", () => this.to(letGo(this.state)))
    on("bars", "pointercancel", () => this.to(dropped(this.state), "select"))
    on("bars", "keydown", (e) => {
      const next = keyed(this.state, e.key)
      if (!next) return
      this.to(next, "select")
      e.preventDefault()
    })
    on("map", "click", (e) => {
      const hit = this.mapHit(e)
      if (hit) this.show(opened(this.state, hit.module.name))
    })
    on("map", "pointermove", (e) => this.tell(e, this.mapHit(e)))
    for (const role of ["bars", "map"]) on(role, "pointerleave", () => (this.part("tip").hidden = true))
  }

  // another module
  show(next) {
    this.part("module").value = next.module
    this.to(next, "select")
  }

  grab(event) {
    const hit = this.barHit(event)
    if (!hit) return
    this.canvas.bars.setPointerCapture(event.pointerId)
    const more = event.shiftKey || event.ctrlKey || event.metaKey
    this.to(grabbed(this.state, hit.component, more, event.clientY), "select")
  }

  pull(event) {
    const next = pulled(this.state, event.clientY, this.barHit(event, this.state.drag.component).gain)
    if (next === this.state) return
    this.part("tip").hidden = true // it would tell the gain from before the pull
    this.to(next, "drag")
  }

  barHit(event, component) {
    return barAt(this.bars, this.state, ...where(this.canvas.bars, event), component)
  }

  mapHit(event) {
    return gainAt(this.boxes, ...where(this.canvas.map, event))
  }

  tell(event, hit, module = hit?.module) {
    const tip = this.part("tip")
    if (!hit) tip.hidden = true
    else showTip(tip, tip.parentElement, event, tipLines(this.state, gainsNow(this.state), module, hit.component))
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
    const { state } = this
    if (!state.data || !this.root.isConnected) return
    const ink = inkOf(this.root, state.data.palette), gains = gainsNow(state)
    const expectation = expectationNow(state)
    this.numbers(numberRows(state.data, numbersNow(state), expectation))
    this.doubts(doubtsOf(expectation))
    if (!state.data.modules.length) return
    const sheet = (name) => sheetOf(this.canvas[name], this.size)
    this.bars = drawBars(sheet("bars"), ink, state, gains, state.drag?.component !== undefined ? this.bars?.high : null)
    drawGate(sheet("gate"), ink, state, gains)
    this.boxes = drawGains(sheet("map"), ink, state, gains)
    this.words(handWords(state, gains))
  }

  numbers(rows) {
    const list = this.part("numbers")
    if (list.childElementCount !== rows.length)
      list.replaceChildren(...rows.map(() => element("div", {}, element("dt"), element("dd"), element("small"))))
    rows.forEach((row, i) => row.forEach((value, j) => {
      const node = list.children[i].children[j]
      if (node.textContent !== String(value)) node.textContent = value
    }))
  }

  doubts(text) {
    const note = this.part("doubts")
    note.hidden = !text
    if (note.textContent !== text) note.textContent = text
  }

  words({ picked, gain, label }) {
    const { data } = this.state
    this.part("picked").textContent = picked
    const field = this.part("gain")
    if (!field.dirty) field.value = gain
    this.canvas.bars.setAttribute("aria-label", label)
    this.canvas.gate.setAttribute("aria-label", `Gain against ${data.positionLabel} of all components`)
    this.canvas.map.setAttribute("aria-label", `Gains of ${data.families.join(", ")} by layer and component`)
  }
}

export default mounted(Board)
