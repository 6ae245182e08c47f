/* Bars of one symbol and one length: those that are stored, those that are published, and the one that runs.

       UDF's history ──────────────┐
       md.bars, of this length ────┴─> published    the highest revision of each counts
       UDF's history, md.bars, of a shorter length ─┐
       md.trades, of what has no such bar yet ──────┴─> parts of the bars that are not published yet

   Everything may come again, and in any order: no part is counted twice. Nothing here reads a clock or asks anybody.
   Times are whole seconds since 1970. */
"use strict";

const UNIT_S = {s: 1, m: 60, h: 3600, d: 86400};
const MOST_PARTS = 5000;

/** The seconds of an interval like 1s, 5m, 1h or 1d; 0 for anything else. */
function lengthOf(interval) {
  const found = /^([1-9][0-9]{0,4})([smhd])$/.exec(interval);
  return found ? Number(found[1]) * UNIT_S[found[2]] : 0;
}

/** The length of the parts of a running bar, of those that there are: the shortest that is not too short. */
function partOf(lengthS, lengths) {
  return Math.min(lengthS, ...lengths.filter(each => lengthS % each === 0 && lengthS / each <= MOST_PARTS));
}

class Candles {
  constructor(lengthS, partS, most = 50_000) {
    Object.assign(this, {lengthS, partS, most});
    this.published = new Map();
    this.parts = new Map();
    this.lastS = -Infinity;  // the latest published one
    this.newestS = -Infinity;  // the latest part
    this.seq = -1;
    this.changed = true;  // not only the last row
  }

  /** Bars of UDF's history, of either length. */
  stored(bars, lengthS) {
    for (const bar of bars) this.#put(lengthS, {...bar, revision: -1});
  }

  /** An event of md.bars. */
  bar(event) {
    const {open, high, low, close, volume, revision} = event, time = Math.round(event.ts_open / 1e9);
    this.#put(lengthOf(event.interval), {time, open, high, low, close, volume, revision});
  }

  /** An event of md.trades. */
  trade({seq, price, size, ts_exchange: venueNs, ts_recv: ourNs, correction, backfilled}) {
    if (seq <= this.seq) return;
    this.seq = seq;
    if (correction || backfilled) return;  // no trades of bars
    const atNs = venueNs === null || venueNs > ourNs + 60e9 ? ourNs : venueNs;
    const time = this.#begin(atNs / 1e9, this.partS), part = this.parts.get(time);
    if (this.#isPublished(time) || part?.revision !== undefined) return;  // a revision will have it
    if (!part) {
      const prices = {open: price, high: price, low: price, close: price};
      this.#putPart({time, ...prices, volume: size, firstNs: atNs, lastNs: atNs});
      return;
    }
    this.changed ||= time < this.newestS;
    if (atNs < part.firstNs) Object.assign(part, {firstNs: atNs, open: price});
    if (atNs >= part.lastNs) Object.assign(part, {lastNs: atNs, close: price});
    part.high = Math.max(part.high, price);
    part.low = Math.min(part.low, price);
    part.volume += size;
  }

  /** What has changed since the last call: all bars, the oldest first, or if that is all the last one. */
  take() {
    const whole = this.changed, running = this.#running();
    this.changed = false;
    return {whole, rows: whole ? [...sorted(this.published), ...running] : running.slice(-1)};
  }

  #running() {
    const found = new Map();
    for (const part of sorted(this.parts)) {
      const time = this.#begin(part.time, this.lengthS), before = found.get(time);
      found.set(time, before ? joined(before, part) : {...part, time});
    }
    return [...found.values()];
  }

  #put(lengthS, bar) {
    if (lengthS === this.lengthS) this.#publish(bar);
    else if (lengthS === this.partS && !this.#isPublished(bar.time)) this.#putPart(bar);
  }

  #publish(bar) {
    this.changed = true;
    keep(this.published, bar);
    if (bar.time <= this.lastS) return;
    this.lastS = bar.time;
    for (const time of this.parts.keys()) if (this.#isPublished(time)) this.parts.delete(time);
    dropOldest(this.published, this.most);
  }

  #putPart(part) {
    this.changed ||= part.time < this.newestS;
    this.newestS = Math.max(this.newestS, part.time);
    keep(this.parts, part);
    dropOldest(this.parts, 2 * MOST_PARTS);
  }

  #isPublished(time) { return this.#begin(time, this.lengthS) <= this.lastS; }
  #begin(time, lengthS) { return Math.floor(time / lengthS) * lengthS; }
}

function sorted(bars) { return [...bars.values()].sort((one, other) => one.time - other.time); }
function dropOldest(bars, most) { if (bars.size > most) bars.delete(Math.min(...bars.keys())); }

/** Put a bar where its revision is not below the one that is there; trades have none. */
function keep(bars, bar) {
  if (!(bars.get(bar.time)?.revision > bar.revision)) bars.set(bar.time, bar);
}

function joined(before, after) {
  const high = Math.max(before.high, after.high), low = Math.min(before.low, after.low);
  return {...before, high, low, close: after.close, volume: before.volume + after.volume};
}
