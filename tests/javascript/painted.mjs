// Paints what the server sends of a component and tells what was painted, for tests in Python.
// Standard input: {figure, data, choice, drag}, standard output: what `figure` tells, both as JSON.
import { readFileSync } from "node:fs"

import { drawMap } from "../../app/geometry/figures.mjs"
import * as map from "../../app/geometry/state.mjs"
import { drawBars } from "../../app/editing/figures.mjs"
import * as board from "../../app/editing/state.mjs"
import { drawAll, drawOne } from "../../app/spectra/figures.mjs"
import { drawDepth, drawStability } from "../../app/spectra/profiles.mjs"
import * as spectra from "../../app/spectra/state.mjs"
import { Recording } from "./recording.mjs"

const SIZE = { width: 1200, height: 900 }

function ofSpectra(draw) {
  return ({ data, choice }, sheet, ink) => {
    const state = spectra.chosen(spectra.received(spectra.blank(), data), choice)
    draw(sheet, ink, { x: 0, y: 0, ...SIZE }, state.m, state.choice, false)
    return sheet.calls
  }
}

const FIGURES = {
  all: ofSpectra(drawAll),
  one: ofSpectra(drawOne),
  depth: ofSpectra(drawDepth),
  stability: ofSpectra(drawStability),
  map({ data }, sheet, ink) {
    drawMap(sheet, ink, map.received(map.blank(), data))
    return sheet.calls
  },
  // the gains, numbers and expectation under a knob that is dragged to `drag`, and the bars
  board({ data, drag }, sheet, ink) {
    const known = board.received(board.blank(0), data)
    const state = drag ? board.slid(known, [...data.knobs, ...data.groups].find((knob) => knob.name === drag.knob), drag.value) : known
    const gains = board.gainsNow(state)
    drawBars(sheet, ink, state, gains)
    return { gains: [...gains], numbers: board.numbersNow(state), expectation: board.expectationNow(state), bars: sheet.calls }
  },
}

const given = JSON.parse(readFileSync(0, "utf8"))
const ink = { ...given.data.palette.print, text: "text", line: "line" }
process.stdout.write(JSON.stringify(FIGURES[given.figure](given, new Recording(SIZE.width, SIZE.height), ink)))
