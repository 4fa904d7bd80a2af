// What the components share: drawing surfaces, scales, small parts of a page.

// A canvas that is drawn on in CSS pixels. The same calls write an SVG below.
export class CanvasSheet {
  constructor(canvas, width, height, ratio = window.devicePixelRatio || 1) {
    Object.assign(this, { width, height })
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio)
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio)
    const g = (this.g = canvas.getContext("2d"))
    g.setTransform(ratio, 0, 0, ratio, 0, 0)
    g.clearRect(0, 0, width, height)
    g.imageSmoothingEnabled = false
  }

  rect(x, y, width, height, fill, alpha = 1) {
    this.g.fillStyle = fill
    if (alpha < 1) this.g.globalAlpha = alpha
    this.g.fillRect(x, y, width, height)
    if (alpha < 1) this.g.globalAlpha = 1
  }

  frame(x, y, width, height, stroke, thick = 1) {
    this.g.strokeStyle = stroke
    this.g.lineWidth = thick
    this.g.strokeRect(x, y, width, height)
    this.g.lineWidth = 1
  }

  path(points, stroke, { thick = 1, dash = [], alpha = 1 } = {}) {
    const { g } = this
    g.strokeStyle = stroke
    g.lineWidth = thick
    g.globalAlpha = alpha
    g.setLineDash(dash)
    g.beginPath()
    points.forEach(([x, y], n) => g[n ? "lineTo" : "moveTo"](x, y))
    g.stroke()
    g.setLineDash([])
    g.lineWidth = 1
    g.globalAlpha = 1
  }

  dot(x, y, radius, fill) {
    this.g.fillStyle = fill
    this.g.beginPath()
    this.g.arc(x, y, radius, 0, 7)
    this.g.fill()
  }

  text(x, y, words, fill, { align = "left", size = 11.5, turn = 0, bold = false } = {}) {
    const { g } = this
    g.save()
    g.translate(x, y)
    if (turn) g.rotate((turn * Math.PI) / 180)
    g.font = `${bold ? "600 " : ""}${size}px sans-serif`
    g.textAlign = align
    g.fillStyle = fill
    g.fillText(words, 0, 0)
    g.restore()
  }

  // `pixels`: RGBA of rows × columns cells
  image(x, y, width, height, columns, rows, pixels) {
    this.g.drawImage(raster(columns, rows, pixels), x, y, width, height)
  }
}

export class SvgSheet {
  constructor(width, height) {
    Object.assign(this, { width, height, parts: [] })
  }

  rect(x, y, width, height, fill, alpha = 1) {
    this.parts.push(`<rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}" fill="${fill}"${alpha < 1 ? ` fill-opacity="${alpha}"` : ""}/>`)
  }

  frame(x, y, width, height, stroke, thick = 1) {
    this.parts.push(`<rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}" fill="none" stroke="${stroke}" stroke-width="${thick}"/>`)
  }

  path(points, stroke, { thick = 1, dash = [], alpha = 1 } = {}) {
    const at = points.map(([x, y]) => `${short(x)},${short(y)}`).join(" ")
    this.parts.push(`<polyline points="${at}" fill="none" stroke="${stroke}" stroke-width="${thick}"${dash.length ? ` stroke-dasharray="${dash}"` : ""}${alpha < 1 ? ` stroke-opacity="${alpha}"` : ""}/>`)
  }

  dot(x, y, radius, fill) {
    this.parts.push(`<circle cx="${short(x)}" cy="${short(y)}" r="${radius}" fill="${fill}"/>`)
  }

  text(x, y, words, fill, { align = "left", size = 11.5, turn = 0, bold = false } = {}) {
    const anchor = { left: "start", center: "middle", right: "end" }[align]
    const place = `transform="translate(${short(x)} ${short(y)})${turn ? ` rotate(${turn})` : ""}"`
    this.parts.push(`<text ${place} font-size="${size}" text-anchor="${anchor}" fill="${fill}"${bold ? ' font-weight="600"' : ""}>${escaped(words)}</text>`)
  }

  image(x, y, width, height, columns, rows, pixels) {
    const url = raster(columns, rows, pixels).toDataURL("image/png")
    this.parts.push(`<image x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}" href="${url}" preserveAspectRatio="none" style="image-rendering:pixelated"/>`)
  }

  toString() {
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${this.width} ${this.height}" width="${this.width}" height="${this.height}" font-family="sans-serif">${this.parts.join("")}</svg>`
  }
}

// what a figure is drawn with on the page, whose theme may leave a colour open; `palette` is the server's
export function inkOf(node, palette) {
  const style = getComputedStyle(node), of = (name, otherwise) => style.getPropertyValue(name) || otherwise
  const { print } = palette
  return {
    text: style.color,
    line: of("--st-border-color", print.line),
    accent: of("--st-primary-color", print.accent),
    back: of("--st-background-color", print.back),
    soft: palette.neutral,
  }
}

// a colour of CSS as #rrggbb
export function hexOf(colour) {
  const g = element("canvas").getContext("2d")
  g.fillStyle = colour.trim()
  return g.fillStyle
}

// What a component exports: it keeps one `Page` for each place where it is mounted, as long as that is there.
// In every run a page is connected to the server, which it tells by two functions, and receives its data.
export function mounted(Page) {
  const pages = new WeakMap()
  return ({ data, parentElement, setStateValue, setTriggerValue }) => {
    if (!pages.has(parentElement)) pages.set(parentElement, new Page(parentElement))
    const page = pages.get(parentElement)
    page.connect(setStateValue, setTriggerValue)
    page.receive(data)
    return () => {
      page.unmount()
      pages.delete(parentElement)
    }
  }
}

// a figure as a file, dark on white whatever the page's theme is; `draw(sheet, ink)` paints it at width × height
export function saveSvg(name, width, height, palette, draw) {
  const sheet = new SvgSheet(width, height)
  paintFile(sheet, palette, draw)
  save(name, new Blob([sheet.toString()], { type: "image/svg+xml" }))
}

export function savePng(name, width, height, palette, draw) {
  const canvas = document.createElement("canvas")
  paintFile(new CanvasSheet(canvas, width, height, 3), palette, draw)
  canvas.toBlob((blob) => save(name, blob))
}

function paintFile(sheet, palette, draw) {
  sheet.rect(0, 0, sheet.width, sheet.height, palette.print.back)
  draw(sheet, palette.print)
}

function save(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}

// Files that the server makes. `ask` puts a question to it; a run that is broken off by another forgets its
// question, which is then put again. While one is open, nothing should start a run that can wait.
export class Files {
  constructor(ask) {
    this.ask = ask
    this.open = new Map() // questions by their id
  }

  get waiting() {
    return this.open.size > 0
  }

  want(format, choice) {
    const question = { format, choice, id: `${Date.now()}-${Math.random()}` }
    this.open.set(question.id, question)
    this.ask(question)
  }

  // what every answer of the server brings, with a file or without
  receive(file) {
    if (file && this.open.delete(file.asked) && file.text !== undefined) save(file.name, new Blob([file.text], { type: file.type }))
    clearTimeout(this.again)
    if (this.waiting) this.again = setTimeout(() => this.ask(this.open.values().next().value), 2500)
  }

  stop() {
    clearTimeout(this.again)
  }
}

function raster(columns, rows, pixels) {
  const canvas = element("canvas", { width: columns, height: rows })
  canvas.getContext("2d").putImageData(new ImageData(pixels, columns, rows), 0, 0)
  return canvas
}

// keeps the sizes of canvases, which would lay the page out once more if painting asked for them,
// and calls `paint` when one of them or the theme changes; returns [sizes, stop]
export function watch(canvases, paint) {
  const sizes = new Map()
  const resize = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) sizes.set(target, [contentRect.width, contentRect.height])
    paint()
  })
  for (const canvas of canvases) resize.observe(canvas)
  const scheme = new MutationObserver(paint)
  scheme.observe(document.documentElement, { attributes: true, attributeFilter: ["style", "class"] })
  const stop = () => {
    resize.disconnect()
    scheme.disconnect()
  }
  return [sizes, stop]
}

export function sheetOf(canvas, sizes) {
  return new CanvasSheet(canvas, ...(sizes.get(canvas) ?? [canvas.clientWidth, canvas.clientHeight]))
}

// lets the benchmarks and tests see what was painted, and how long after its cause
export function report(kind, ms) {
  document.dispatchEvent(new CustomEvent("board", { detail: { kind, ms } }))
}

export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties)
  node.append(...children)
  return node
}

export function setOptions(select, options, value) {
  const key = JSON.stringify(options)
  if (select.dataset.options !== key) {
    select.dataset.options = key
    select.replaceChildren(...options.map(([name, label]) => element("option", { value: name, textContent: label })))
  }
  select.value = value
}

export function ticks(high) {
  const rough = high / 4, unit = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= rough)
  return Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, i) => i * step)
}

export function where(canvas, event) {
  const box = canvas.getBoundingClientRect()
  return [event.clientX - box.left, event.clientY - box.top]
}

// a tip beside the pointer, inside `box`
export function showTip(tip, box, event, lines) {
  tip.textContent = lines.join("\n")
  tip.hidden = false
  const { left, top, width } = box.getBoundingClientRect()
  tip.style.left = `${Math.max(0, Math.min(event.clientX - left + 14, width - tip.offsetWidth - 4))}px`
  tip.style.top = `${event.clientY - top + 16}px`
}

// how a component of this standing is drawn; what has none was not measured
export function standingOf(palette, code) {
  return palette.standings.find((standing) => standing.code === code) ?? palette.unmeasured
}

// 257 colours along stops of equal distance
export function shades(stops) {
  const known = stops.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)))
  return Array.from({ length: 257 }, (_, n) => {
    const at = (n / 256) * (known.length - 1), i = Math.min(known.length - 2, Math.floor(at))
    return known[i].map((v, c) => Math.round(v + (known[i + 1][c] - v) * (at - i)))
  })
}
export const css = (rgb) => `rgb(${rgb.join(",")})`

export function bytes(base64) {
  return (Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))).buffer
}
export const floats = (base64) => new Float32Array(bytes(base64))
export const shorts = (base64) => new Uint16Array(bytes(base64))

const short = (value) => Math.round(value * 100) / 100
const escaped = (words) => String(words).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
export const text = (value) => String(Number(Number(value).toPrecision(4)))
export const signed = (value, digits = 4) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits)
