import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseHostPort } from '../core/net/host-port'

test('a host is read with its port, IPv6 in brackets', () => {
  const good: [string, string, boolean, number | undefined][] = [
    ['mx.example', 'mx.example', false, undefined],
    ['mx.example:25', 'mx.example', false, 25],
    ['10.0.0.1:65535', '10.0.0.1', false, 65_535],
    ['[2001:DB8::1]', '2001:DB8::1', true, undefined],
    ['[::]:587', '::', true, 587],
    [':25', '', false, 25],
  ]
  for (const [text, host, bracketed, port] of good)
    assert.deepEqual(parseHostPort(text), { host, bracketed, port }, text)
})

test('what is no host with a port is an error that repeats nothing of it', () => {
  const bad: [string, RegExp][] = [
    ['::1', /brackets/],
    ['::1:25', /brackets/],
    ['[mx.example]:25', /no IPv6/],
    ['[]', /no IPv6/],
    ['[::1', /brackets/],
    ['[::1]x', /brackets/],
    ['mx:0', /bad port/],
    ['mx:65536', /bad port/],
    ['mx:', /bad port/],
    ['mx:2 5', /bad port/],
    ['mx:-1', /bad port/],
    ['mx:secret', /bad port/],
    ['mx:1e3', /bad port/],
  ]
  for (const [text, problem] of bad) {
    assert.throws(
      () => parseHostPort(text),
      (error: Error) => problem.test(error.message) && !/secret|mx/.test(error.message),
      text,
    )
  }
})
