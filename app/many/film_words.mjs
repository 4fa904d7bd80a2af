// What the film says of its state in words and numbers.
import { cellAtStep, matches, measureOf, moduleOf, withinChance } from "./film_state.mjs"
import { numberOf, titleOf } from "./film_figures.mjs"

export function stepWords({ data, at }) {
  return `step ${data.steps[at]} (${at + 1} of ${data.steps.length})`
}

const nameOf = ({ data }, cell) => {
  const layer = data.layers[cell % data.layers.length], family = data.families[Math.floor(cell / data.layers.length)]
  return layer === "–" ? family : `layer ${layer} · ${family}`
}

export function tipLines(state, cell) {
  const found = cellAtStep(state, cell), count = state.data.counts[cell], name = nameOf(state, cell)
  if (!count) return [name, "no such module"]
  const lines = [count > 1 ? `${name}, mean of ${count}` : name]
  if (!found) return [...lines, missing(state)]
  lines.push(`${numberOf(state, found.value)} at ${stepWords(state)}`)
  if (found.chance === null) return lines
  const verdict = withinChance(state, found) ? "not distinguishable from random" : `beyond random`
  return [...lines, `${verdict}: random ${numberOf(state, found.random)}, chance level ${numberOf(state, found.chance)}`]
}

function missing(state) {
  const { directed, component } = measureOf(state)
  if (!directed) return "no value: this checkpoint lacks the module"
  if (component) return "no value: a zero update, no such component, or one that shares its σ"
  return state.choice.measure === "before" && state.at === 0
    ? "no value: nothing was kept before the first checkpoint"
    : "no value: fewer components than k in one of the two"
}

export function legendWords(state) {
  const { note, directed } = measureOf(state)
  if (!state.choice.marks || !directed) return note
  return `${note} Faded cells are not distinguishable from random subspaces (one-sided, 1 % per cell).`
}

export function mapLabel(state) {
  const module = moduleOf(state), found = module && cellAtStep(state, module.cell)
  const chosen = module ? ` ${module.label}: ${found ? numberOf(state, found.value) : "no value"}.` : ""
  return `${titleOf(state)}, ${stepWords(state)}.${chosen} Arrow keys left and right change the step, up and down the module, space plays.`
}

// which components of the last step those of this step are most like
export function matchWords(state) {
  const found = matches(state), moved = found.map((match, k) => [k + 1, match]).filter(([k, match]) => match !== null && match !== k)
  if (found.every((match) => match === null)) return "No component has a match at the last step."
  if (!moved.length) return "Every component is most like the one with its own number at the last step."
  return `Of the last step, ${moved.map(([k, match]) => `number ${match} is most like component ${k}`).join(", ")}.`
}

export function curveLabel(names, curves, state) {
  return names.map((name, n) => `${name} ${curves[n].map((v) => (v === null ? "–" : numberOf(state, v))).join(", ")}`).join("; ")
}
