// What the Spectra page was sent, decoded and indexed once.
import { bytes, floats, standingOf } from "../components/sheet.mjs"

export function model(data) {
  const { modules, measured, palette } = data
  const layers = [...new Set(modules.map((module) => module.layer).filter((layer) => layer !== null))].sort((a, b) => a - b)
  return {
    data,
    modules,
    palette,
    measured: null,
    sigma: floats(data.sigma),
    share: floats(data.share),
    energy: floats(data.energy),
    functional: data.functional ? floats(data.functional) : null,
    degenerate: new Uint8Array(bytes(data.degenerate)),
    ...(measured && measurement(measured, palette)),
    byName: new Map(modules.map((module) => [module.name, module])),
    at: new Map(modules.map((module) => [`${module.row} ${module.column}`, module])),
    members: new Map(data.families.map((family) => [family, modules.filter((module) => module.family === family)])),
    layers,
    layerAt: new Map(layers.map((layer, at) => [layer, at])),
    names: modules.map((module) => [module.name, module.label]),
    families: [["", "all families"], ...data.families.map((family) => [family, family])],
  }
}

// `standings`: how each component is drawn; `gaps`: not every module was measured
function measurement(measured, palette) {
  const found = {}
  for (const name of ["mean", "error", "magnitude", "magnitudeError", "agreement"]) found[name] = floats(measured[name])
  const renamed = measured.stability.map((budget) => ({ ...budget, halfMagnitude: budget.half_magnitude, halfSigned: budget.half_signed, halfTop: budget.half_top }))
  return {
    ...found,
    measured: { ...measured, stability: renamed },
    standings: Array.from(new Int8Array(bytes(measured.standing)), (code) => standingOf(palette, code)),
    gaps: found.mean.some(Number.isNaN),
  }
}

export const standingAt = (m, i) => m.standings?.[i] ?? m.palette.unmeasured

// whether what enters the module of a component was measured
export const isSeen = (m, i) => Boolean(m.functional) && !Number.isNaN(m.functional[i])

export const isMeasured = (m, i) => Boolean(m.measured) && !Number.isNaN(m.mean[i])
