"use strict";
// Draws the runs of a page with uPlot, from the figures that the page holds, in the place of the
// static pictures: the values of a step where the cursor is, and zoom, by mouse, touch and keyboard.
(() => {
  if (typeof uPlot !== "function") return; // it gave up in this browser: the static pictures stay
  const HEIGHT = 260, SLOWER = "the slowest of so many steps";
  const bundles = JSON.parse(document.getElementById("figures").textContent).bundles;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plain = (value, unit) => `${Number(value.toPrecision(3))} ${unit}`;
  const ms = (value) => (value >= 100 ? `${value.toFixed(1)} ms` : plain(value, "ms"));
  const rate = (value) => {
    const power = Math.min(Math.max(Math.floor(Math.log10(Number(value.toPrecision(3))) / 3), 0), 3);
    return plain(value / 1000 ** power, ["B/s", "kB/s", "MB/s", "GB/s"][power]);
  };
  const KINDS = {
    times: {
      lines: [["latency_ms", "latency", "--look1"], ["age_ms", "age", "--look2"]],
      text: ms, tick: (value) => plain(value, "ms"), log: false, shaded: true,
    },
    rates: { lines: [["up_bytes_per_s", "uplink", "--look3"]], text: rate, tick: rate, log: true, shaded: false },
  };
  const BANDS = { alone: "--pool", stale: "--hops" };
  const HELP = "Arrow keys go from step to step, plus and minus zoom, 0 shows all of the run.";

  // Actions that came from elsewhere than the chosen variant, each step lasting until the next.
  const shade = (time) => (plot) => {
    const { left, top, width, height } = plot.bbox;
    const at = (seconds) => Math.min(Math.max(plot.valToPos(seconds, "x", true), left), left + width);
    plot.ctx.save();
    plot.ctx.globalAlpha = 0.25;
    time.source.forEach((source, index) => {
      if (!BANDS[source]) return;
      const start = at(time.s[index]), end = at(time.s[index + 1] ?? plot.scales.x.max);
      plot.ctx.fillStyle = colour(BANDS[source]);
      plot.ctx.fillRect(start, top, Math.max(end - start, 1), height);
    });
    plot.ctx.restore();
  };

  const axis = (more) => ({
    stroke: () => colour("--text"),
    grid: { stroke: () => colour("--grid"), width: 1 },
    ticks: { stroke: () => colour("--grid") },
    font: "12px system-ui, sans-serif",
    ...more,
  });

  const options = (kind, time, width, key, say) => ({
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { sync: { key }, y: false },
    scales: { x: { time: false }, y: kind.log ? { distr: 3 } : { range: (_, __, most) => [0, (most || 1) * 1.05] } },
    axes: [axis({}), axis({ size: 76, values: (_, at) => at.map((one) => (one === null ? "" : kind.tick(one))) })],
    series: [{}, ...kind.lines.map(([, label, name]) => ({ label, width: 2, stroke: () => colour(name) }))],
    hooks: { drawClear: kind.shaded ? [shade(time)] : [], setCursor: [say] },
  });

  const go = (plot, move) => {
    const [first, last] = plot.series[0].idxs;
    const index = Math.min(Math.max(move(plot.cursor.idx, first, last), first), last);
    plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: HEIGHT / 3 }, true, true);
  };

  const show = (plot, min, max) => {
    const s = plot.data[0], index = plot.cursor.idx;
    plot.setScale("x", { min: Math.max(min, s[0]), max: Math.min(max, s[s.length - 1]) });
    if (index !== null) queueMicrotask(() => go(plot, () => index)); // the cursor stays at its step
  };

  const zoom = (plot, factor) => {
    const { min, max } = plot.scales.x, index = plot.cursor.idx;
    const middle = index === null ? (min + max) / 2 : plot.data[0][index];
    const half = ((max - min) / 2) * factor;
    show(plot, middle - half, middle + half);
  };

  const KEYS = {
    ArrowRight: (plot) => go(plot, (at, first) => (at === null ? first : at + 1)),
    ArrowLeft: (plot) => go(plot, (at, _, last) => (at === null ? last : at - 1)),
    Home: (plot) => go(plot, (_, first) => first),
    End: (plot) => go(plot, (_, __, last) => last),
    "+": (plot) => zoom(plot, 0.5),
    "-": (plot) => zoom(plot, 2),
    0: (plot) => show(plot, -Infinity, Infinity),
  };

  for (const place of document.querySelectorAll("[data-run]")) {
    const kind = KINDS[place.dataset.run], run = bundles[place.dataset.bundle].run, time = run.over_time;
    const frame = place.querySelector(".frame"), live = document.createElement("div"), said = document.createElement("p");
    live.className = "live";
    live.tabIndex = 0;
    live.setAttribute("role", "group");
    live.setAttribute("aria-label", `${place.querySelector("figcaption").textContent}. ${HELP}`);
    said.className = "said";
    said.setAttribute("aria-live", "polite");
    const say = (plot) => {
      const at = plot.cursor.idx;
      said.textContent = at === null || at === undefined ? HELP : [
        `${plain(time.s[at], "s")}: ${kind.lines.map(([key, name]) => `${name} ${kind.text(time[key][at])}`).join(", ")}`,
        `${time.variant[at]}, ${time.source[at]}`,
      ].join("; ") + (run.steps > time.s.length ? ` (${SLOWER})` : "");
    };
    frame.replaceWith(live);
    place.querySelector("figure").append(said);
    const width = () => Math.max(live.clientWidth, 200);
    const values = kind.lines.map(([key]) => time[key].map((one) => (kind.log ? Math.max(one, 1) : one)));
    const plot = new uPlot(options(kind, time, width(), `run ${place.dataset.bundle}`, say), [time.s, ...values], live);
    live.addEventListener("keydown", (event) => {
      if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      KEYS[event.key](plot);
    });
    addEventListener("resize", () => plot.setSize({ width: width(), height: HEIGHT }));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw(false));
    say(plot);
  }
})();
