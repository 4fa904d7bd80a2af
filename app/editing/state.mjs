// What the board knows and what follows from it: every step returns a new state, nothing here touches the
// page. While a knob is dragged the gains shown are a row of the server's table of that knob's steps; no
// policy is computed here.
import { css, floats, shades, shorts } from "../components/sheet.mjs"

const NUDGE = 0.05 // a press of an arrow key, in gain
const STILL = 3 // px that a pressed bar may move and still be a click

export function blank(serial) {
  return {
    data: null,
    table: null,
    arming: null, // the knob whose table was asked for
    waiting: [], // acts the server has not answered yet
    serial,
    picked: new Set([0]),
    module: null,
    drag: null, // {knob, step} or {component, gain, from}: what the hand has moved and the server not yet confirmed
    held: false, // a knob or bar is under a pressed button: nothing may move it but the hand
  }
}

export function received(state, data) {
  const waiting = state.waiting.filter((act) => act.id > data.answered)
  const table = data.table ? { ...data.table, codes: shorts(data.table.gains) } : state.table
  return {
    ...state,
    data,
    waiting,
    sigma: floats(data.sigma),
    mean: floats(data.mean),
    error: floats(data.error),
    gains: floats(data.gains),
    position: floats(data.position),
    shades: state.shades ?? shades(data.palette.gains).map(css),
    table: table && table.key === data.tableKeys[table.knob] ? table : null,
    arming: data.table ? null : state.arming,
    module: data.modules.some((module) => module.name === state.module) ? state.module : data.modules[0]?.name,
    // the server has the last word on what the hand let go
    drag: waiting.length || state.held ? state.drag : null,
  }
}

// everything a person does becomes one act; the list is sent whole, so that no act is lost
export function acted(state, type, detail = {}) {
  const serial = state.serial + 1
  return { ...state, serial, waiting: [...state.waiting, { id: serial, type, ...detail }] }
}

export const moduleOf = (state) => state.data.modules.find((module) => module.name === state.module)

export function opened(state, name) {
  return { ...state, module: name, picked: new Set([0]) }
}

export function stepped(state, by) {
  const { modules } = state.data
  return opened(state, modules.at((modules.indexOf(moduleOf(state)) + by) % modules.length).name)
}

export function allPicked(state) {
  return { ...state, picked: new Set(Array(moduleOf(state).rank).keys()) }
}

// `gain` of all that is picked: a number, "lock", or null to follow the policy again
export function byHand(state, gain) {
  return manual(state, Object.fromEntries([...state.picked].map((k) => [k, gain])))
}

function manual(state, gains) {
  return acted(state, "manual", { module: state.module, gains })
}

// with `more` the bar is picked besides the others, or let go
export function grabbed(state, component, more, from) {
  const picked = more ? new Set(state.picked) : new Set([component])
  if (more && !picked.delete(component)) picked.add(component)
  return { ...state, picked, held: true, drag: { component, gain: null, from } }
}

export const pulling = (state) => state.held && state.drag?.component !== undefined

export function pulled(state, at, gain) {
  const { drag } = state
  return drag.gain === null && Math.abs(at - drag.from) < STILL ? state : { ...state, drag: { ...drag, gain } }
}

export function letGo(state) {
  if (!pulling(state)) return state
  const { gain, component } = state.drag
  const free = { ...state, held: false }
  return gain === null ? { ...free, drag: null } : manual(free, { [component]: gain })
}

export function dropped(state) {
  return { ...state, held: false, drag: null }
}

export function slid(state, knob, value) {
  return { ...state, drag: { knob: knob.name, step: Math.round((value - knob.low) / knob.step) } }
}

// a knob of the policy, the strength, or the gain of a layer group was let go at a value
export function turned(state, knob, value) {
  if (knob === "strength") return acted(state, "strength", { value })
  const group = state.data.groups.some((each) => each.name === knob)
  return group ? acted(state, "group", { group: knob, value }) : acted(state, "knob", { knob, value })
}

// the same state where the knob's table is here or on its way
export function armed(state, knob) {
  const arming = knob + state.data.tableKeys[knob]
  return state.table?.knob === knob || state.arming === arming ? state : { ...state, arming }
}

// null for a key that means nothing here
export function keyed(state, key) {
  const { rank, start } = moduleOf(state)
  const move = { ArrowLeft: -1, ArrowRight: 1 }[key], nudge = { ArrowUp: NUDGE, ArrowDown: -NUDGE }[key]
  if (move) return { ...state, picked: new Set([(Math.min(rank - 1, ...state.picked) + move + rank) % rank]) }
  if (nudge) return nudged(state, start, nudge)
  if (key === "Delete") return byHand(state, 0)
  if (key === "Backspace") return byHand(state, null)
  return key === "l" ? byHand(state, "lock") : null
}

// drawn at once, so that quick presses add up
function nudged(state, start, by) {
  const gains = state.gains.slice(), asked = {}
  for (const k of state.picked) gains[start + k] = asked[k] = Math.max(0, Math.round((gains[start + k] + by) * 100) / 100)
  return manual({ ...state, gains }, asked)
}

// the row of the table under the knob that is being dragged; null where the policy refuses the value
export function rowOf({ drag, table }) {
  if (!drag?.knob || table?.knob !== drag.knob) return null
  const row = Math.min(Math.round(drag.step / table.every), table.numbers.length - 1)
  return table.numbers[row] ? row : null
}

// gains of all components as the screen shows them now: the server's, a row of the table, a pulled bar
export function gainsNow(state) {
  const { table, drag } = state, row = rowOf(state), size = state.sigma.length
  const gains = row === null
    ? state.gains.slice()
    : Float32Array.from(table.codes.subarray(row * size, (row + 1) * size), (code) => code / table.unit)
  if (drag?.gain != null) gains[moduleOf(state).start + drag.component] = drag.gain
  return gains
}

// what is expected on held-out rows: the server's word, or while a knob is dragged that of the nearest step that has one
export function expectationNow(state) {
  const row = rowOf(state)
  if (row === null) return state.data.expectation
  const told = state.table.expectations, away = (at) => Math.abs(at - row)
  const nearest = told.reduce((best, found, at) => (found && (best === null || away(at) < away(best)) ? at : best), null)
  return nearest === null ? null : told[nearest]
}

export function numbersNow(state) {
  const row = rowOf(state)
  return row === null ? state.data.numbers : state.table.numbers[row]
}
