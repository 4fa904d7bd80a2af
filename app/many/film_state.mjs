// What the film knows and what follows from it: every step returns a new state, nothing here touches the page.
// The server computes every value; a step, a measure, a side, k or a module is chosen without asking it.
import { bytes, floats, shades, shorts } from "../components/sheet.mjs"

const NONE = 65535 // of a match

export function blank() {
  return { data: null, choice: null, at: 0, playing: false }
}

// a training that is already here keeps what is chosen and where it stands
export function received(state, data) {
  if (state.data?.key === data.key) return { ...state, data: { ...state.data, file: data.file } }
  const k = data.ks.includes(data.k) ? data.k : data.ks.at(-1)
  return {
    data: decoded(data),
    choice: { measure: data.measures[0].name, side: data.sides[0][0], k, marks: true, module: 0 },
    at: 0,
    playing: false,
    shades: shades(data.palette.shares),
  }
}

function decoded(data) {
  const unpacked = (variant) => Object.fromEntries(Object.entries(variant).map(([name, packed]) => [name, floats(packed)]))
  return {
    ...data,
    values: Object.fromEntries(Object.entries(data.values).map(([name, variants]) => [name, variants.map(unpacked)])),
    sigma: floats(data.sigma),
    angles: data.angles.map(floats),
    match: shorts(data.match),
    degenerate: new Uint8Array(bytes(data.degenerate)),
  }
}

export function chosen(state, changes) {
  return { ...state, choice: { ...state.choice, ...changes } }
}

export function stood(state, at) {
  return { ...state, at: Math.min(state.data.steps.length - 1, Math.max(0, at)) }
}

export const atEnd = ({ data, at }) => at === data.steps.length - 1

// from the end it starts over
export function played(state) {
  if (state.playing) return { ...state, playing: false }
  return { ...state, playing: true, at: atEnd(state) ? 0 : state.at }
}

// the next frame; the last one stops
export function advanced(state) {
  const next = stood(state, state.at + 1)
  return atEnd(next) ? { ...next, playing: false } : next
}

// what a key does; null for one that does nothing
export function keyed(state, key) {
  const { at, data, choice } = state, still = { ...state, playing: false }
  const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: data.steps.length - 1 }
  if (key in steps) return stood(still, steps[key])
  const modules = { ArrowUp: choice.module - 1, ArrowDown: choice.module + 1 }
  if (key in modules) return chosen(state, { module: Math.min(data.modules.length - 1, Math.max(0, modules[key])) })
  return key === " " ? played(state) : null
}

export const measureOf = ({ data, choice }) => data.measures.find(({ name }) => name === choice.measure)
export const atK = ({ data, choice }) => data.ks.indexOf(choice.k)

// the arrays of what is chosen: cells and families at every step, and each one's random and chance level
export function variantOf(state) {
  const { data, choice } = state, variants = data.values[choice.measure]
  if (variants.length === 1) return variants[0]
  return variants[data.sides.findIndex(([name]) => name === choice.side) * data.ks.length + atK(state)]
}

const orNull = (value) => (Number.isNaN(value) ? null : value)

// value, random and chance level of a cell at a step; null where it has no value
export function cellAtStep(state, cell, at = state.at) {
  const { cells, cellRandom, cellChance } = variantOf(state), size = cellRandom.length
  const value = orNull(cells[at * size + cell])
  return value === null ? null : { value, random: orNull(cellRandom[cell]), chance: orNull(cellChance[cell]) }
}

// whether random subspaces give as much; never of a measure without a chance level
export function withinChance(state, { value, chance }) {
  return chance !== null && (measureOf(state).small ? value >= chance : value <= chance)
}

// a curve over the steps: null where there is no value
export const cellCurve = (state, cell) => state.data.steps.map((_, at) => cellAtStep(state, cell, at)?.value ?? null)

export function familyCurve(state, family) {
  const { families } = variantOf(state), size = state.data.families.length
  return state.data.steps.map((_, at) => orNull(families[at * size + family]))
}

// the level that every family's mean has to pass to be told from random, and what random gives; null where there is none.
// A starts at random and keeps most of its span, so on the input side random directions inside of it are a level too.
export function familyLevels(state) {
  const { familyRandom, familyChance, familyInside } = variantOf(state), strictest = measureOf(state).small ? Math.min : Math.max
  const of = (levels) => {
    const known = [...levels].filter((level) => !Number.isNaN(level))
    return known.length ? strictest(...known) : null
  }
  return { random: of(familyRandom), chance: of(familyChance), inside: state.choice.side === "input" ? of(familyInside) : null }
}

export const moduleOf = ({ data, choice }) => data.modules[choice.module]

// the first module of a cell; undefined where it has none
export function moduleIn({ data }, cell) {
  const at = data.modules.findIndex((module) => module.cell === cell)
  return at < 0 ? undefined : at
}

// σ of each component of the chosen module over the steps
export function sigmaCurves(state) {
  return curves(state, (at) => orNull(state.data.sigma[at]))
}

// the angle of each component with its match, null where its direction means nothing, on the chosen side
export function angleCurves(state) {
  const { data, choice } = state, angles = data.angles[data.sides.findIndex(([name]) => name === choice.side)]
  return curves(state, (at) => (data.degenerate[at] ? null : orNull(angles[at])))
}

// the match of each component at the present step, counted from 1; null for none
export function matches(state) {
  const found = curves(state, (at) => (state.data.match[at] === NONE ? null : state.data.match[at] + 1))
  return found.map((curve) => curve[state.at])
}

function curves(state, of) {
  const { start, rank } = moduleOf(state)
  return Array.from({ length: rank }, (_, k) => state.data.steps.map((_step, at) => of(start + at * rank + k)))
}

// which of the 257 shades a value has; the scale is the same at every step, so that colours can be compared
export function shadeOf(state, value) {
  const { low, high } = measureOf(state)
  return Math.min(256, Math.max(0, Math.round((256 * (value - low)) / (high - low || 1))))
}
