// The live page: asks /milepost/fleet and /milepost/requests once a second and shows what they say.
//
// Rule: whatever comes from outside becomes text, never markup. It asks less often while it is not seen or not answered, and holds
// a bounded number of requests and samples. Stages come from the router; nothing is derived here but rates and shares.
'use strict';

const EVERY_MS = 1000;
const HIDDEN_MS = 30000;
const SLOWEST_MS = 15000;
const PATIENCE_MS = 15000;
const WINDOW_MS = 60000;
const MAX_ROWS = 300;
const MAX_WORKERS = 256;
const KEY = 'milepost-key';

// A browser may keep nothing for any page; then the key is asked for again after each load.
function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function keep(key) {
  try {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  } catch {
    // As above.
  }
  state.key = key;
}

const $ = (id) => document.getElementById(id);
const state = { key: kept(), samples: [], rows: [], next: 0, instance: null, skipped: 0, paused: null, failures: 0, timer: 0, opened: false };

// Which colour a stage has. A name of several stages is one that nobody told apart; where they are of one colour, so is it.
const KINDS = [
  ['router', 'router'], ['network', 'to server'], ['tokenize', 'tokenize'], ['queue', 'server queue'], ['prefill', 'prefill'],
  ['decode', 'decode, answer'], ['failed', 'failed attempt, pause'], ['mixed', 'not told apart by the server'],
];
const KIND_OF = {
  'to server': 'network', tokenize: 'tokenize', 'server queue': 'queue', prefill: 'prefill', decode: 'decode', answer: 'decode',
  'at worker': 'decode', 'failed attempt': 'failed', pause: 'failed',
};
function kindOf(name) {
  const kinds = new Set(name.split(' + ').map((one) => KIND_OF[one] || 'router'));
  return kinds.size === 1 ? [...kinds][0] : 'mixed';
}

function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null) continue;
    if (name === 'class') node.className = value;
    else if (name === 'click') node.addEventListener('click', value);
    else node.setAttribute(name, value);
  }
  // Text nodes: a string is never parsed.
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

const known = (n) => typeof n === 'number' && Number.isFinite(n);
const count = (n) => (known(n) ? n.toLocaleString('en-US') : '-');
const share = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)}%` : '-');

function seconds(s) {
  if (!known(s)) return '-';
  if (s > 0 && s < 1e-6) return `${(s * 1e9).toFixed(0)} ns`;
  if (s < 0.001) return `${(s * 1e6).toFixed(0)} µs`;
  if (s < 1) return `${(s * 1e3).toFixed(s < 0.1 ? 1 : 0)} ms`;
  return s < 100 ? `${s.toFixed(2)} s` : `${s.toFixed(0)} s`;
}
const nanos = (ns) => (known(ns) ? seconds(ns / 1e9) : '-');
const rate = (n) => (known(n) ? (n < 10 ? n.toFixed(1) : n.toFixed(0)) : '-');
const clock = (unixNs) => new Date(unixNs / 1e6).toISOString().slice(11, 23);
const sum = (ended) => Object.values(ended || {}).reduce((all, n) => all + n, 0);
// A client that has gone is no error of a worker or the router.
const errors = (ended) => sum(ended) - ((ended || {}).done || 0) - ((ended || {}).client_gone || 0);

// What a histogram of counts since the start says of the time between two samples: straight lines within a bucket.
function quantile(now, then, q) {
  if (!now) return undefined;
  const before = new Map(then ? then.at_most.map(([bound, n]) => [bound, n]) : []);
  const total = now.count - (then ? then.count : 0);
  if (total <= 0) return undefined;
  let [low, below] = [0, 0];
  for (const [bound, n] of now.at_most) {
    const upTo = n - (before.get(bound) || 0);
    if (upTo >= q * total) return low + ((bound - low) * (q * total - below)) / Math.max(1, upTo - below);
    [low, below] = [bound, upTo];
  }
  return low;
}

function merged(histograms) {
  const all = { count: 0, at_most: [] };
  for (const one of histograms.filter(Boolean)) {
    all.count += one.count;
    one.at_most.forEach(([bound, n], i) => {
      all.at_most[i] = [bound, n + (all.at_most[i] ? all.at_most[i][1] : 0)];
    });
  }
  return all;
}

class Refused extends Error {}

async function ask(path) {
  const headers = state.key ? { authorization: `Bearer ${state.key}` } : {};
  const answer = await fetch(path, { headers, cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
  if (answer.status === 401 || answer.status === 403) throw new Refused(String(answer.status));
  if (!answer.ok) throw new Error(`${path}: status ${answer.status}`);
  return answer.json();
}

async function tick() {
  clearTimeout(state.timer);
  state.timer = 0;
  try {
    const after = state.next;
    const [fleet, requests] = await Promise.allSettled([ask('/milepost/fleet'), ask(`/milepost/requests?after=${after}`)]);
    for (const { reason } of [fleet, requests]) if (reason instanceof Refused) throw reason;
    if (fleet.reason) throw fleet.reason;
    takeFleet(fleet.value);
    // After a restart numbers begin anew, and this answer is of those that are higher than the old one.
    if (requests.value && after === state.next) takeRequests(requests.value);
    else if (requests.reason) note('trace-note', `The requests could not be read: ${requests.reason.message}`, true);
    state.failures = 0;
    $('door').hidden = true;
    link(fleet.value.draining ? 'the router is stopping' : 'live', fleet.value.draining ? 'warn' : 'good');
  } catch (error) {
    if (error instanceof Refused) return wantKey(error.message);
    state.failures += 1;
    link(`no answer from the router (${error.message}), trying on`, 'bad');
  }
  const wait = document.hidden ? HIDDEN_MS : Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.min(state.failures, 8));
  state.timer = setTimeout(tick, state.failures || document.hidden ? wait : EVERY_MS);
}

function link(text, kind) {
  $('link').textContent = text;
  $('link').className = kind;
}

function note(id, text, isBad) {
  $(id).textContent = text;
  $(id).className = isBad ? 'note bad' : 'note';
}

function wantKey(status) {
  const had = state.key !== null;
  keep(null);
  $('refused').textContent = had ? (status === '403' ? 'That key may not look at this.' : 'That key is not known here.') : '';
  $('door').hidden = false;
  link('locked', 'warn');
  $('key').focus();
}

function takeFleet(fleet) {
  const now = performance.now();
  // Counters of another process begin at zero.
  if (state.instance !== fleet.instance) {
    Object.assign(state, { instance: fleet.instance, samples: [], rows: [], next: 0, skipped: 0 });
  }
  state.samples.push({ at: now, fleet });
  while (state.samples.length > 2 && now - state.samples[1].at >= WINDOW_MS) state.samples.shift();
  const then = state.samples[0];
  const span = (now - then.at) / 1000;
  $('what').textContent = [
    `${fleet.split ? `split ${fleet.split}` : fleet.policy}`,
    fleet.shadow_policies.length ? `shadows ${fleet.shadow_policies.join(', ')}` : '',
    fleet.listen || '', `version ${fleet.version}`,
  ].filter(Boolean).join(' · ');
  showTotals(fleet, then.fleet, span);
  showFleet(fleet, then.fleet, span);
}

// What happened at one worker, or at all, between two samples; since the start while there is one sample alone.
function between(now, then, span) {
  const past = span > 0 ? then : undefined;
  const of = (field) => (now ? now[field] - (past ? past[field] : 0) : 0);
  const n = now ? sum(now.ended) - sum(past && past.ended) : 0;
  return {
    rate: span > 0 ? n / span : undefined,
    errors: now ? errors(now.ended) - errors(past && past.ended) + of('failed_attempts') : 0,
    hits: now ? share(of('cached_tokens'), of('prompt_tokens')) : '-',
    p50: quantile(now && now.ttft, past && past.ttft, 0.5),
    p99: quantile(now && now.ttft, past && past.ttft, 0.99),
  };
}

function showTotals(fleet, then, span) {
  const counted = (of) => of.workers.map((worker) => worker.counted).filter(Boolean);
  const add = (field) => (of) => counted(of).reduce((all, one) => all + one[field], 0);
  const whole = (of) => ({
    ended: of.ended, failed_attempts: add('failed_attempts')(of), cached_tokens: add('cached_tokens')(of),
    prompt_tokens: add('prompt_tokens')(of), ttft: merged(counted(of).map((one) => one.ttft)),
  });
  const all = between(whole(fleet), whole(then), span);
  const ready = fleet.workers.filter((worker) => worker.healthy && worker.breaker === 'closed').length;
  const trace = !fleet.trace.on ? ['off', 'warn'] : fleet.trace.lost ? [`${count(fleet.trace.lost)} lost`, 'bad'] : ['on, none lost', 'good'];
  const bad = errors(fleet.ended);
  const told = [
    ['workers ready', `${ready} of ${fleet.workers.length}`, ready === fleet.workers.length && ready ? 'good' : 'bad'],
    ['in flight', count(fleet.workers.reduce((n, worker) => n + worker.in_flight, 0))],
    ...(known(fleet.queued) ? [['waiting in the router', count(fleet.queued), fleet.queued ? 'warn' : '']] : []),
    ['TTFT p50', seconds(all.p50)],
    ['TTFT p99', seconds(all.p99)],
    ['cache hits', all.hits],
    ['requests routed since start', count(fleet.routed)],
    ['errors of all requests since start', count(bad), bad ? 'bad' : ''],
    ['trace', ...trace],
  ];
  $('totals').replaceChildren(...told.map(([name, value, kind]) => el('div', {}, el('dt', {}, name), el('dd', { class: kind }, value))));
}

const FLEET = [
  ['worker', 'name'], ['state'], ['breaker'], ['in flight', 'n'], ['server queue', 'n'], ['running', 'n more'], ['KV', 'n more'], ['answers/s', 'n more'],
  ['errors', 'n'], ['TTFT p50', 'n'], ['TTFT p99', 'n'], ['cache hits', 'n more'], ['answers', 'n more'],
];

function health(worker) {
  if (!worker.reached) return ['pending', 'warn'];
  return worker.healthy ? ['healthy', 'good'] : ['unhealthy', 'bad'];
}

function showFleet(fleet, then, span) {
  const before = new Map(then.workers.map((worker) => [worker.url, worker.counted]));
  const rows = fleet.workers.slice(0, MAX_WORKERS).map((worker) => {
    const { counted } = worker;
    const recent = between(counted, before.get(worker.url), span);
    const [word, kind] = health(worker);
    const about = [worker.model, worker.version && `SGLang ${worker.version}`, worker.simulated ? 'simulated' : ''].filter(Boolean).join(', ');
    const failed = counted ? errors(counted.ended) + counted.failed_attempts : 0;
    const cells = [
      el('span', { title: about || worker.url }, worker.url), el('span', { class: kind, title: worker.failed_check }, word),
      el('span', { class: worker.breaker === 'closed' ? '' : 'bad' }, worker.breaker.replace('_', '-')), count(worker.in_flight),
      count(worker.queue_depth), count(worker.running), known(worker.kv_usage) ? share(worker.kv_usage, 1) : '-', rate(recent.rate),
      el('span', { class: recent.errors ? 'bad' : failed ? 'warn' : '', title: `${count(recent.errors)} of them in the last minute` }, count(failed)),
      seconds(recent.p50), seconds(recent.p99), recent.hits, count(counted && sum(counted.ended)),
    ];
    return el('tr', {}, ...cells.map((cell, i) => el('td', { class: FLEET[i][1] }, cell)));
  });
  refresh(bodyOf('fleet', FLEET), rows);
  const left = fleet.workers.length - rows.length;
  const window = span >= 1 ? `over the last ${Math.round(Math.min(span, WINDOW_MS / 1000))} s` : 'since the start';
  note('fleet-note', `${fleet.workers.length ? '' : 'There are no workers. '}${left > 0 ? `${left} more workers are not shown. ` : ''}Rates, TTFT and cache hits are ${window}; TTFT is that of streams, from buckets. Errors and answers are since the start. Server queue, running and KV are what servers say of themselves (--load-monitor-interval).`);
}

function bodyOf(id, columns) {
  const table = $(id);
  if (!table.tHead.rows.length) {
    table.tHead.append(el('tr', {}, ...columns.map(([name, kind]) => el('th', { scope: 'col', class: kind }, name))));
  }
  return table.tBodies[0];
}

// What is the same stays in place, so that a selection, the focus and a click outlive a second.
function place(body, wanted) {
  wanted.forEach((node, i) => {
    if (body.children[i] !== node) body.insertBefore(node, body.children[i] || null);
  });
  while (body.children.length > wanted.length) body.lastElementChild.remove();
}

function refresh(body, rows) {
  place(body, rows.map((row, i) => {
    const old = body.children[i];
    if (!old) return row;
    [...row.cells].forEach((cell, at) => {
      if (!old.cells[at].isEqualNode(cell)) old.cells[at].replaceWith(cell);
    });
    return old;
  }));
}

function takeRequests(answer) {
  if (answer.instance !== state.instance) return;
  const [first] = answer.requests;
  state.rows.push(...answer.requests);
  // What failed is held longer: it is what somebody looks for.
  while (state.rows.length > MAX_ROWS) {
    const done = state.rows.findIndex((row) => row.record.outcome === 'done');
    state.rows.splice(done >= 0 && done < state.rows.length / 2 ? done : 0, 1);
  }
  const missed = state.next > 0 && first ? first.n - state.next - 1 : 0;
  state.next = answer.next;
  state.skipped += missed;
  traceNote(answer);
  workersOf(state.rows);
  showRequests();
  openNamed();
}

function traceNote({ trace, error, skipped_bytes: skippedBytes, skipped_files: skippedFiles }) {
  if (error) return note('trace-note', `The trace: ${error}`, true);
  if (!trace) return note('trace-note', 'The trace is off, so single requests are not known: start the router with --trace-log FILE.', true);
  const lost = (trace.lost.requests || 0) + (trace.lost.stopped || 0);
  const where = trace.file ? ` ${trace.file}` : '';
  const parts = [];
  if (trace.state === 'stopped') parts.push('The capture is stopped; milepost trace start goes on with it.');
  else if (trace.state === 'failing') parts.push(`The trace cannot be written: ${trace.error || 'see the log'}.`);
  else if (trace.sink !== 'file') parts.push(`The trace goes to ${trace.file || 'standard output'}, where it cannot be read again; single requests are not shown.`);
  else parts.push(`Capturing to${where}: ${count(trace.requests)} requests, those of this page among them.`);
  if (lost) parts.push(`${count(lost)} requests, those of this page among them, are not in it.`);
  if (state.skipped || skippedBytes || skippedFiles) parts.push('More requests came than are shown here; the trace has all of them.');
  note('trace-note', parts.join(' '), trace.state !== 'capturing');
}

function workersOf(rows) {
  const select = $('by-worker');
  const there = new Set([...select.options].map((option) => option.value));
  for (const { record } of rows) {
    if (record.worker && !there.has(record.worker) && there.size <= MAX_WORKERS) {
      there.add(record.worker);
      select.append(el('option', { value: record.worker }, record.worker));
    }
  }
}

const REQUESTS = [
  ['arrived (UTC)', 'more'], ['request', 'id'], ['ended'], ['worker', 'name more'], ['policy', 'more'], ['where the time went', 'bars'], ['TTFT', 'n'],
  ['E2E', 'n'], ['tokens in', 'n more'], ['cached', 'n more'], ['out', 'n more'],
];

function bar(stages, wholeNs) {
  const parts = stages.map((stage) => el('i', { class: kindOf(stage.name), title: `${stage.name} ${nanos(stage.end_ns - stage.start_ns)}` }));
  const label = stages.map((stage) => `${stage.name} ${nanos(stage.end_ns - stage.start_ns)}`).join(', ');
  return scaled(el('div', { class: 'bar', role: 'img', 'aria-label': label }, ...parts), stages, wholeNs);
}

// Draws what lies before `wholeNs`, over the whole width.
function scaled(node, stages, wholeNs) {
  stages.forEach((stage, i) => {
    const long = Math.min(stage.end_ns, wholeNs) - stage.start_ns;
    node.children[i].style.width = `${(100 * Math.max(0, long)) / Math.max(1, wholeNs)}%`;
    node.children[i].hidden = long <= 0;
  });
  return node;
}

function ending(record) {
  const status = known(record.status) ? `${record.status} ` : '';
  const kind = record.outcome === 'done' ? 'good' : record.outcome === 'client_gone' ? 'warn' : 'bad';
  return el('span', { class: kind, title: record.error }, `${status}${record.outcome.replaceAll('_', ' ')}`);
}

function rowOf(row) {
  const { record } = row;
  const tokens = record.tokens || {};
  const cells = [
    clock(record.arrival_unix_ns), el('button', { class: 'id', type: 'button', title: record.request_id }, record.request_id),
    ending(record), el('span', { title: record.worker }, record.worker || '-'), record.policy || '-',
    bar(row.stages, record.end_ns), nanos(row.ttft_ns), nanos(record.end_ns),
    count(tokens.prompt_tokens), count(tokens.cached_tokens), count(tokens.completion_tokens),
  ];
  return el('tr', { click: () => open(row) }, ...cells.map((cell, i) => el('td', { class: REQUESTS[i][1] }, cell)));
}

function showRequests() {
  const all = state.paused || state.rows;
  const worker = $('by-worker').value;
  const onlyBad = $('by-end').value === 'bad';
  const shown = all.filter(({ record }) => (!worker || record.worker === worker) && (!onlyBad || record.outcome !== 'done')).reverse();
  const longest = Math.max(1, ...shown.map((row) => row.record.end_ns));
  const scale = $('scale').value;
  place(bodyOf('requests', REQUESTS), shown.map((row) => {
    row.node ||= rowOf(row);
    const wholeNs = scale === 'one' ? longest : (scale === 'ttft' && row.ttft_ns) || row.record.end_ns;
    scaled(row.node.querySelector('.bar'), row.stages, wholeNs);
    return row.node;
  }));
  $('count').textContent = `${shown.length} of ${all.length}${state.paused ? `, paused; ${state.rows.filter((row) => !state.paused.includes(row)).length} newer` : ''}`;
}

function table(head, rows) {
  return el('div', { class: 'wide' }, el('table', {}, el('thead', {}, el('tr', {}, ...head.map((name) => el('th', { scope: 'col' }, name)))),
    el('tbody', {}, ...rows.map((cells) => el('tr', {}, ...cells.map((cell) => el('td', {}, cell)))))));
}

function plain(value) {
  if (value === undefined || value === null) return '-';
  if (typeof value === 'number' && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

// The decision, a row for each candidate; a column that nobody has a value for is left out.
function decision(record) {
  const { decision: made } = record;
  if (!made) return [el('p', { class: 'dim' }, known(record.decided_ns) ? 'The decision was not recorded.' : 'No decision was made.')];
  const rows = made.candidates.map((candidate, i) => ({
    '': candidate.chosen ? '→' : '', worker: candidate.worker, score: candidate.score, reason: candidate.reason, 'in flight': candidate.in_flight,
    'prefix match (bytes)': candidate.prefix_match_bytes,
    ...Object.fromEntries((made.part_names || []).map((name, at) => [name, ((made.parts || [])[i] || [])[at]])),
    ...(made.estimates || [])[i], ...(made.server_loads || [])[i],
  }));
  const names = [...new Set(rows.flatMap(Object.keys))].filter((name) => rows.some((row) => row[name] !== undefined && row[name] !== null));
  const about = [`${record.policy || '-'}: ${made.reason}`, made.candidates.length ? `${made.candidates.length} of ${made.eligible} eligible workers` : 'no candidate was recorded', `in ${nanos(made.took_ns)}`];
  if (known(made.margin)) about.push(`margin ${plain(made.margin)}`);
  if (made.fallback) about.push(`a fallback for ${made.fallback}`);
  const shadows = (record.shadow || []).map((shadow) => el('li', {}, `${shadow.policy} would have chosen ${shadow.agrees ? 'the same' : shadow.worker || 'nobody'} (${shadow.reason})`));
  return [el('p', {}, about.join(' · ')), table(names, rows.map((row) => names.map((name) => plain(row[name])))), shadows.length ? el('ul', {}, ...shadows) : null];
}

function open(row) {
  const { record } = row;
  $('one-title').textContent = `${record.method} ${record.path} · ${record.request_id}`;
  const stages = row.stages.map((stage) => [
    el('span', {}, el('i', { class: `swatch ${kindOf(stage.name)}` }), stage.name), nanos(stage.start_ns), nanos(stage.end_ns - stage.start_ns),
  ]);
  const about = [`TTFT ${nanos(row.ttft_ns)} (${row.ttft_source})`, `E2E ${nanos(record.end_ns)}`];
  if (known(row.clock_bound_ns)) about.push(`server stamps within ${nanos(row.clock_bound_ns)}`);
  if (row.order_broken) about.push('the stamps contradict each other');
  const failed = (record.failed_attempts || []).map((attempt) => [attempt.worker, plain(attempt.status), nanos(attempt.failed_ns), attempt.error]);
  $('one-body').replaceChildren(
    el('p', {}, ending(record), record.error ? `: ${record.error}` : '', ` · ${record.worker || 'no worker'} · ${about.join(' · ')}`),
    bar(row.stages, record.end_ns), table(['stage', 'from', 'took'], stages),
    ...(failed.length ? [el('h3', {}, 'Attempts that failed'), table(['worker', 'status', 'failed at', 'why'], failed)] : []),
    el('h3', {}, 'Decision'), ...decision(record).filter(Boolean), el('h3', {}, 'Record'), el('pre', {}, JSON.stringify(record, null, 2)),
  );
  history.replaceState(null, '', `#${encodeURIComponent(record.request_id)}`);
  if (!$('one').open) $('one').showModal();
}

// A link to a request opens it, if it is still there.
function openNamed() {
  if (state.opened || location.hash.length < 2) return;
  let wanted = location.hash.slice(1);
  try {
    wanted = decodeURIComponent(wanted);
  } catch {
    // Taken as it stands.
  }
  const row = state.rows.findLast(({ record }) => record.request_id === wanted);
  if (row) open(row);
  state.opened = true;
}

$('legend').replaceChildren(...KINDS.map(([kind, name]) => el('li', {}, el('i', { class: kind }), name)));
for (const id of ['by-worker', 'by-end', 'scale']) $(id).addEventListener('change', showRequests);
$('pause').addEventListener('click', () => {
  state.paused = state.paused ? null : [...state.rows];
  $('pause').setAttribute('aria-pressed', String(Boolean(state.paused)));
  $('pause').textContent = state.paused ? 'Go on' : 'Pause';
  showRequests();
});
$('one').addEventListener('close', () => history.replaceState(null, '', location.pathname));
$('door').addEventListener('submit', (event) => {
  event.preventDefault();
  const key = $('key').value.trim();
  $('key').value = '';
  if (!/^[\x21-\x7e]+$/.test(key)) {
    $('refused').textContent = 'A key has visible characters only.';
    return;
  }
  keep(key);
  tick();
});
document.addEventListener('visibilitychange', () => {
  // While the timer does not run an answer is awaited, or a key.
  if (!document.hidden && state.timer) tick();
});
tick();
