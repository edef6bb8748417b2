// The books of the soak: what it calls lost, twice and told, so that a good verdict means something.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { failing, troublesOf } from '../bench/soak-chaos'
import { ACCEPTED, PAIR, REFUSED, settle, UNANSWERED } from '../bench/soak-ledger'

test('each message is lost, twice, told or delivered by what its client and the next hops saw', () => {
  const pair = ACCEPTED + PAIR
  // What the client was told; how often it was delivered, of these unanswered; DSNs, of these unanswered.
  const rows: [number, [number, number, number, number], string][] = [
    [ACCEPTED, [1, 0, 0, 0], 'delivered'],
    [ACCEPTED, [1, 1, 0, 0], 'delivered'],
    [ACCEPTED, [0, 0, 1, 0], 'told'],
    [ACCEPTED, [0, 0, 0, 0], 'lost'],
    [ACCEPTED, [2, 0, 0, 0], 'delivered twice'],
    [ACCEPTED, [2, 1, 0, 0], 'delivered twiceUnanswered'],
    [ACCEPTED, [3, 2, 0, 0], 'delivered twiceUnanswered'],
    [ACCEPTED, [3, 1, 0, 0], 'delivered twice'],
    [ACCEPTED, [0, 0, 2, 0], 'told twice'],
    [ACCEPTED, [0, 0, 2, 1], 'told twiceUnanswered'],
    [ACCEPTED, [1, 0, 1, 0], 'both twice'],
    [ACCEPTED, [1, 1, 1, 0], 'both twiceUnanswered'],
    [pair, [1, 0, 1, 0], 'both'],
    [pair, [0, 0, 2, 0], 'told'],
    [pair, [1, 0, 0, 0], 'delivered lost'],
    [pair, [0, 0, 1, 0], 'told lost'],
    [pair, [0, 0, 0, 0], 'lost'],
    [pair, [2, 0, 1, 0], 'both twice'],
    [pair, [1, 0, 2, 0], 'both twice'],
    [pair, [1, 0, 2, 1], 'both twiceUnanswered'],
    [REFUSED, [0, 0, 0, 0], ''],
    [REFUSED, [1, 1, 0, 0], ''],
    [REFUSED, [1, 0, 0, 0], 'refusedYetDelivered'],
    [UNANSWERED, [1, 0, 0, 0], ''],
    [UNANSWERED, [0, 0, 0, 0], ''],
    [UNANSWERED, [2, 0, 0, 0], 'twice'],
  ]
  for (const [state, [delivered, unanswered, told, toldUnanswered], expected] of rows) {
    const ledger = settle(Uint8Array.of(0, state), 1, {
      delivered: Uint8Array.of(0, delivered),
      unanswered: Uint8Array.of(0, unanswered),
      told: Uint8Array.of(0, told),
      toldUnanswered: Uint8Array.of(0, toldUnanswered),
    })
    const { accepted, ...ends } = ledger
    const found = Object.entries(ends).filter(([, end]) => (typeof end === 'number' ? end : end.length) > 0)
    assert.equal(
      found
        .map(([name]) => name)
        .sort()
        .join(' '),
      expected.split(' ').filter(Boolean).sort().join(' '),
      `${state}: ${delivered} ${unanswered} ${told} ${toldUnanswered}`,
    )
    assert.equal(accepted, (state & ~PAIR) === ACCEPTED ? 1 : 0)
  }
})

test('the same seed has the same troubles, each over before the next of the same and before the end', () => {
  const events = troublesOf(1800, 7)
  assert.deepEqual(events, troublesOf(1800, 7))
  assert.notDeepEqual(events, troublesOf(1800, 8))
  for (const who of failing) {
    const mine = events.filter((event) => event.who === who)
    assert.ok(mine.length > 10, who)
    for (const [index, { from, until }] of mine.entries())
      assert.ok(from < until && until < (mine[index + 1]?.from ?? 1800), `${who} ${from}`)
  }
})
