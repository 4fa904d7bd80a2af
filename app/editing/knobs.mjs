// The field of a knob as the page shows it.
import { element, setOptions, text } from "../components/sheet.mjs"

// `hand` is told what is done to it: change(name, value), arm(name), hold(held), slide(knob, value)
export function knobField(knob, hand) {
  const name = element("span", { textContent: knob.label })
  const input = { choice: chosen, bool: switched, number: typed, range: slider }[knob.kind](knob, hand, name)
  const field = element("label", { className: "field", title: knob.help }, name)
  if (knob.kind === "bool") name.append(input)
  else {
    input.setAttribute("aria-label", knob.label)
    field.append(input)
  }
  if (knob.kind === "range") field.onpointerenter = () => hand.arm(knob.name)
  return field
}

function chosen(knob, hand) {
  const input = element("select", { name: knob.name })
  setOptions(input, knob.choices.map((choice) => [choice, choice]), knob.value)
  input.onchange = () => hand.change(knob.name, input.value)
  return input
}

function switched(knob, hand) {
  const input = element("input", { type: "checkbox", name: knob.name })
  input.onchange = () => hand.change(knob.name, input.checked)
  return input
}

function typed(knob, hand) {
  const input = element("input", { type: "number", name: knob.name, min: knob.low, max: knob.high, step: knob.step })
  input.onchange = () => hand.change(knob.name, Number(input.value))
  return input
}

function slider(knob, hand, name) {
  const shown = element("output", { textContent: text(knob.value) })
  name.append(shown)
  const input = element("input", { type: "range", name: knob.name, min: 0, max: 1, step: 1 })
  Object.assign(input, { min: knob.low, max: knob.high, step: knob.step })
  input.onfocus = () => hand.arm(knob.name)
  input.onpointerdown = () => hand.hold(true)
  input.onpointerup = input.onpointercancel = () => hand.hold(false)
  input.oninput = () => {
    shown.textContent = text(Number(input.value))
    hand.slide(knob, input.value)
  }
  input.onchange = () => {
    hand.hold(false)
    hand.change(knob.name, Number(input.value))
  }
  return input
}

// the field follows the server
export function setKnob(field, knob) {
  const input = field.querySelector("[name]")
  if (knob.kind === "bool") input.checked = knob.value
  else input.value = knob.value
  const shown = field.querySelector("output")
  if (shown) shown.textContent = text(knob.value)
}
