/* The page /chart: bars of a symbol from /udf, moved on by the streams of md.bars and md.trades (candles.js). */
"use strict";

const KEY = "mdstream-key";
const PAGE = 500, FOUND = 100;
const BRIDGED_S = 900;  // the longest lag of the database that is made up for
const LATE_S = 10;  // a bar is published so soon after its end
const SILENT_MS = 40_000, LOST_MS = 120_000, RETRY_MS = 1_000, AGAIN_MS = 5_000;

const at = id => document.getElementById(id);
const sleep = ms => new Promise(done => setTimeout(done, ms));
const say = text => { at("state").textContent = text; };
const query = values => new URLSearchParams(values).toString();

function link(text, href) {
  const made = document.createElement("a");
  made.textContent = text;
  made.href = href;
  return made;
}

/* ------------------------------------------------------------------------------------------------------- requests */

class KeyError extends Error {}

async function ask(path, {headers = {}, signal} = {}) {
  const key = sessionStorage.getItem(KEY);  // not in the path: that is in logs and in the history of the browser
  const answer = await fetch(path, {signal, headers: key ? {...headers, Authorization: `Bearer ${key}`} : headers});
  if (answer.ok) return answer;
  const error = (await answer.json().catch(() => ({}))).error || `status ${answer.status}`;
  if (answer.status === 401) throw new KeyError(key ? "that is no key of this server" : "this server asks for a key");
  throw Object.assign(new Error(error), {refused: answer.status < 500 && answer.status !== 429});
}

async function json(path) {
  const found = await (await ask(path)).json();
  if (found.s === "error") throw new Error(found.errmsg);
  return found;
}

/** The events of a stream; goes on behind the last one when the connection was lost. Never returns. */
async function follow(path, stopped, take) {
  let last = "", heardMs = Date.now();
  for (;;) {
    const silent = new AbortController();
    let timer = 0;
    const watch = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(new Error("the server is silent")), SILENT_MS);
    };
    const heard = () => {
      heardMs = Date.now();
      watch();
    };
    try {
      watch();
      const headers = last ? {"Last-Event-ID": last} : {};
      const answer = await ask(path, {headers, signal: AbortSignal.any([stopped, silent.signal])});
      for await (const {id, event, data} of events(answer.body, heard)) {
        if (event === "failure") break;
        if (data && !event) take(JSON.parse(data));
        last = id ?? last;
      }
    } catch (error) {
      // Before its first id, which comes at once, there is nothing to go on behind.
      if (!last || stopped.aborted || error.refused || error instanceof KeyError) throw error;
      say(`${path.split("?")[0]}: ${error.message}; trying again`);
    } finally {
      clearTimeout(timer);
    }
    if (Date.now() - heardMs > LOST_MS) throw new Error("the connection was lost for too long");
    await sleep(RETRY_MS);
  }
}

/** Server-sent events as objects of their fields. */
async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    heard();
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      yield Object.fromEntries(part.split("\n").map(line => line.split(/: (.*)/, 2)));
    }
  }
}

/* ----------------------------------------------------------------------------------------------------- the bars */

class Source {
  constructor(symbol, lengthS, resolutions) {
    Object.assign(this, {symbol, lengthS, resolutions, ended: false, busy: false});
    this.partS = partOf(lengthS, [...resolutions.keys()]);
    this.candles = new Candles(lengthS, this.partS);
  }

  async history(lengthS, values) {
    const asked = {symbol: this.symbol, resolution: this.resolutions.get(lengthS), ...values};
    const found = await json(`udf/history?${query(asked)}`);
    const bars = (found.t || []).map((time, n) =>
      ({time, open: found.o[n], high: found.h[n], low: found.l[n], close: found.c[n], volume: found.v[n]}));
    this.candles.stored(bars, lengthS);
    return {bars, before: found.nextTime};
  }

  /** The last bars before a time, and whether there were any. */
  async before(time) {
    let {bars, before} = await this.history(this.lengthS, {to: time, countback: PAGE});
    if (before !== undefined) ({bars} = await this.history(this.lengthS, {to: before + 1, countback: PAGE}));
    return bars;
  }

  /** What is stored, then what comes. Never returns. */
  async run(stopped, changed) {
    const nowS = Number(await (await ask("udf/time")).text());
    const bars = await this.before(nowS + this.lengthS);
    let last = bars.at(-1)?.time ?? 0;
    if (this.partS < this.lengthS) {
      const beganS = Math.max(last + this.lengthS, Math.floor(nowS / this.lengthS) * this.lengthS - this.lengthS);
      const parts = await this.history(this.partS, {from: Math.min(beganS, nowS), to: nowS + this.partS});
      last = parts.bars.at(-1)?.time ?? last;
    }
    changed();
    // What is stored up to a bar has all that was written before it began.
    const since = Math.max(1, nowS - Math.max(last, nowS - BRIDGED_S));
    const {symbol, candles} = this, stream = (kind, start, take) =>
      follow(`v1/stream/${kind}?${query({symbol, start: `${start}s`})}`, stopped, event => { take(event); changed(); });
    await Promise.all([
      stream("bars", since, event => candles.bar(event)),
      stream("trades", 2 * this.partS + LATE_S, event => candles.trade(event)),
    ]);
  }

  async older() {
    const {published, most} = this.candles, first = Math.min(...published.keys());
    if (this.busy || this.ended || published.size >= most || !published.size) return false;
    this.busy = true;
    try {
      this.ended = (await this.before(first)).length === 0;
      return !this.ended;
    } finally {
      this.busy = false;
    }
  }
}

/* ------------------------------------------------------------------------------------------------------- the page */

function colour(name) {
  const probe = at("chart").appendChild(document.createElement("span"));
  probe.className = name;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

class View {
  constructor(scale) {
    at("chart").hidden = false;
    const grid = {color: colour("line")}, up = colour("buy"), down = colour("sell");
    this.chart = LightweightCharts.createChart(at("chart"), {
      autoSize: true,
      // The page itself names TradingView: the logo would bring a style that the page's policy forbids.
      layout: {background: {color: "transparent"}, textColor: colour("dim"), attributionLogo: false},
      grid: {vertLines: grid, horzLines: grid},
      timeScale: {rightOffset: 3, timeVisible: true, secondsVisible: true, borderVisible: false},
      rightPriceScale: {borderVisible: false},
    });
    this.candles = this.chart.addSeries(LightweightCharts.CandlestickSeries, {
      upColor: up, wickUpColor: up, downColor: down, wickDownColor: down, borderVisible: false,
      priceFormat: {type: "price", precision: Math.round(Math.log10(scale)), minMove: 1 / scale},
    });
    this.volume = this.chart.addSeries(LightweightCharts.HistogramSeries, {
      priceScaleId: "", priceFormat: {type: "volume"}, color: grid.color,
      lastValueVisible: false, priceLineVisible: false,
    });
    this.volume.priceScale().applyOptions({scaleMargins: {top: 0.82, bottom: 0}});
    this.candles.priceScale().applyOptions({scaleMargins: {top: 0.08, bottom: 0.22}});
    this.chart.subscribeCrosshairMove(({seriesData}) =>
      this.describe(seriesData.get(this.candles), seriesData.get(this.volume)));
  }

  show({whole, rows}) {
    const volumes = rows.map(({time, volume}) => ({time, value: volume}));
    if (whole) {
      this.candles.setData(rows);
      this.volume.setData(volumes);
    } else if (rows.length) {
      this.candles.update(rows[0]);
      this.volume.update(volumes[0]);
    }
    this.last = rows.at(-1) ?? this.last;
    if (!this.pointed) this.describe();
  }

  /** The bar at the pointer, else the last one. */
  describe(bar, volume) {
    this.pointed = bar !== undefined;
    const shown = bar ? {...bar, volume: volume?.value} : this.last;
    if (!shown) return;
    const form = this.candles.priceFormatter();
    const [open, high, low, close] = [shown.open, shown.high, shown.low, shown.close].map(price => form.format(price));
    const time = new Date(shown.time * 1000).toISOString().slice(0, 19).replace("T", " ");
    say(`${time} UTC   O ${open}   H ${high}   L ${low}   C ${close}   V ${Number(shown.volume?.toPrecision(6))}`);
  }
}

let view = null;

async function chart(symbol, interval) {
  const {supported_resolutions: named} = await json("udf/config");
  const {pricescale} = await json(`udf/symbols?${query({symbol})}`);
  const names = named.map(intervalOf), resolutions = new Map(names.map((name, n) => [lengthOf(name), named[n]]));
  const wanted = interval || (names.includes("1m") ? "1m" : names[0]), lengthS = lengthOf(wanted);
  const choice = name => name === wanted ? name : link(name, `chart?${query({symbol, interval: name})}`);
  at("choices").replaceChildren(link("symbols", "chart"), "   ", ...names.flatMap(name => [choice(name), "  "]));
  at("title").textContent = document.title = `${symbol} ${wanted}`;
  if (!resolutions.has(lengthS)) throw new Error(`there are no bars of ${wanted}: there are ${names.join(", ")}`);
  view ??= new View(pricescale);
  const source = new Source(symbol, lengthS, resolutions), stop = new AbortController();
  let waiting = false;
  const draw = () => {
    waiting = false;
    view.show(source.candles.take());
  };
  const changed = () => {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  };
  const scrolled = async range => {
    if (range && range.from < 10 && await source.older().catch(error => say(error.message))) changed();
  };
  const scale = view.chart.timeScale();
  scale.subscribeVisibleLogicalRangeChange(scrolled);
  document.onvisibilitychange = () => document.hidden && stop.abort();  // a browser has six connections to a server
  try {
    await source.run(stop.signal, changed);
  } finally {
    stop.abort();
    scale.unsubscribeVisibleLogicalRangeChange(scrolled);
  }
}

/** UDF's 1S, 5, 60, 1D as 1s, 5m, 1h, 1d. */
function intervalOf(resolution) {
  if (/[SD]$/.test(resolution)) return resolution.toLowerCase();
  return resolution % 60 ? `${resolution}m` : `${resolution / 60}h`;
}

async function symbols() {
  const text = at("text").value, found = await json(`udf/search?${query({query: text, limit: FOUND})}`);
  if (text !== at("text").value) return;  // more was typed
  at("symbols").replaceChildren(...found.map(({symbol}) => {
    const item = document.createElement("li");
    item.append(link(symbol, `chart?${query({symbol})}`));
    return item;
  }));
  say(found.length < FOUND ? `${found.length} symbols with bars` : `the first ${FOUND}: type a part of a name`);
}

async function choose() {
  at("search").hidden = false;
  await symbols();
  await new Promise((_, failed) => { at("text").oninput = () => symbols().catch(failed); });
}

function keyGiven() {
  at("login").hidden = false;
  return new Promise(done => {
    at("login").onsubmit = event => {
      event.preventDefault();
      sessionStorage.setItem(KEY, at("key").value.trim());
      at("key").value = "";
      at("login").hidden = true;
      done();
    };
  });
}

function visible() {
  return new Promise(done => {
    document.onvisibilitychange = () => document.hidden || done();
    document.onvisibilitychange();
  });
}

async function main() {
  const asked = new URLSearchParams(location.search), symbol = (asked.get("symbol") || "").toUpperCase();
  for (;;) {
    await visible();
    try {
      await (symbol ? chart(symbol, asked.get("interval")) : choose());
    } catch (error) {
      if (document.hidden) continue;
      say(error.message);
      await (error instanceof KeyError ? keyGiven() : sleep(AGAIN_MS));
    }
  }
}

main();
