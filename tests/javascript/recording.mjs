// A sheet that keeps what is painted on it, and palettes and packed numbers as the server sends them.

export class Recording {
  constructor(width = 600, height = 300) {
    Object.assign(this, { width, height, calls: [] })
  }

  rect(x, y, width, height, fill, alpha = 1) {
    this.calls.push({ kind: "rect", x, y, width, height, fill, alpha })
  }

  frame(x, y, width, height, stroke, thick = 1) {
    this.calls.push({ kind: "frame", x, y, width, height, stroke, thick })
  }

  path(points, stroke, { thick = 1, dash = [], alpha = 1 } = {}) {
    this.calls.push({ kind: "path", points, stroke, thick, dash, alpha })
  }

  dot(x, y, radius, fill) {
    this.calls.push({ kind: "dot", x, y, radius, fill })
  }

  text(x, y, words, fill, style = {}) {
    this.calls.push({ kind: "text", x, y, words: String(words), fill, ...style })
  }

  image(x, y, width, height, columns, rows, pixels) {
    this.calls.push({ kind: "image", x, y, width, height, columns, rows, pixels: Array.from(pixels) })
  }

  of(kind, colour) {
    return this.calls.filter((call) => call.kind === kind && (colour === undefined || (call.fill ?? call.stroke) === colour))
  }

  get words() {
    return this.of("text").map((call) => call.words)
  }
}

export const INK = { text: "TEXT", line: "LINE", accent: "ACCENT", back: "#ffffff", soft: "SOFT" }

// colours are names here: what is painted is told by what it means
export const PALETTE = {
  standings: [
    { code: -1, name: "helps", words: "helps", colour: "HELPS", opacity: 1, striped: false },
    { code: 0, name: "neutral", words: "neutral within noise", colour: "NEUTRAL", opacity: 0.5, striped: false },
    { code: 1, name: "hurts", words: "hurts", colour: "HURTS", opacity: 1, striped: true },
  ],
  unmeasured: { code: 2, name: "none", words: "not measured", colour: "UNMEASURED", opacity: 1, striped: false },
  neutral: "NEUTRAL",
  before: "BEFORE",
  after: "AFTER",
  byHand: "BY HAND",
  energy: "ENERGY",
  chosen: "CHOSEN",
  pair: ["LEFT", "RIGHT"],
  curves: ["CURVE 0", "CURVE 1"],
  dashes: [[], [6, 3]],
  rankings: [{ colour: "RANKING 0", dash: [] }, { colour: "RANKING 1", dash: [2, 2] }],
  shares: ["#000000", "#ffffff"],
  gains: ["#ff0000", "#808080", "#0000ff"],
  gainOctaves: 2,
  print: { text: "PRINTED", line: "PRINTED LINE", accent: "PRINTED ACCENT", back: "PAPER", soft: "PRINTED SOFT" },
}

const packed = (kind) => (values) => Buffer.from(new kind(values).buffer).toString("base64")
export const floats = packed(Float32Array)
export const shorts = packed(Uint16Array)
export const bytes = packed(Int8Array)
