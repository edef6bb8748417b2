import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { domainOf, normalAddress, normalDomain, unquoted, withoutTag } from '../core/mail-address'
import { fc } from './support/random'

describe('a domain', () => {
  const same: [string, string][] = [
    ['Example.COM', 'example.com'],
    ['example.com.', 'example.com'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['BÜCHER.example.', 'xn--bcher-kva.example'],
    ['XN--BCHER-KVA.example', 'xn--bcher-kva.example'],
    ['xn--p1ai', 'xn--p1ai'],
    ['xn--ls8h.la', 'xn--ls8h.la'],
    ['xn--mgba3gch31f060k.example', 'xn--mgba3gch31f060k.example'],
    ['example。com', 'example.com'],
    ['example.com。', 'example.com'],
    ['ｅxample.com', 'example.com'],
    ['_dmarc.example.com', '_dmarc.example.com'],
    ['localhost', 'localhost'],
    [`${'a'.repeat(63)}.example`, `${'a'.repeat(63)}.example`],
  ]
  for (const [text, name] of same) it(`${text} is ${name}`, () => assert.equal(normalDomain(text), name))

  const none = [
    '',
    '.',
    '..',
    '.example.com',
    'example..com',
    'example.com..',
    'a b.example',
    '-a.example',
    'a-.example',
    '192.0.2.1',
    '0x7f.1',
    '127.1',
    '[192.0.2.1]',
    '[IPv6:2001:db8::1]',
    '2001:db8::1',
    'example.com:25',
    'user@example.com',
    '*.example.com',
    // Not punycode, punycode for what needs none, and for what is none itself: the same on every version of Node.
    'xn--',
    'xn--a',
    'xn--0',
    'XN--A.example',
    'mail.xn--a.example',
    'a.xn--zzzzzz',
    'xn--99999999',
    'xn--a-',
    'xn--abc-.example',
    'xn--xn---epa',
    'xn--1ug.example',
    'xn--bücher.example',
    `${'a'.repeat(64)}.example`,
    `${'a.'.repeat(127)}example`,
    'x'.repeat(65_536),
    'a\0b.example',
    '\ud800.example',
    // These are something else to a URL parser, and would be one of our domains to whoever asks one.
    'ex%61mple.com',
    'example%2ecom',
    'example.com/foo',
    'example.com\\foo',
    'example.com?foo',
    'example.com#foo',
    'exa\tmple.com',
    'exam\nple.com',
    ' example.com',
  ]
  for (const text of none)
    it(`is not ${JSON.stringify(text.slice(0, 40))}`, () => {
      assert.throws(() => normalDomain(text), /^Error: ".*" is not a domain name$/s)
      if (text !== '') assert.equal(domainOf(text), undefined)
    })

  it('is left out where there is none: the null sender and a bare <postmaster>', () =>
    assert.equal(domainOf(''), ''))

  it('in its one form is its own one form', () => {
    fc.assert(
      fc.property(fc.oneof(fc.domain(), fc.string({ unit: 'grapheme' })), (text) => {
        const name = domainOf(text)
        if (name === undefined || name === '') return
        assert.equal(normalDomain(name), name)
        assert.match(name, /^[a-z0-9_.-]+$/)
      }),
    )
  })
})

describe('a local part', () => {
  it('in quotes stands for what is in them', () => {
    assert.equal(unquoted('"a\\@b"'), 'a@b')
    assert.equal(unquoted('"a\\\\b"'), 'a\\b')
    assert.equal(unquoted('a"b'), 'a"b')
    assert.equal(unquoted('"'), '"')
    assert.equal(unquoted('""'), '')
  })

  it('without its tag is the mailbox, and a tag alone is a name', () => {
    assert.equal(withoutTag('anna+list'), 'anna')
    assert.equal(withoutTag('anna+a+b'), 'anna')
    assert.equal(withoutTag('anna'), 'anna')
    assert.equal(withoutTag('+list'), '+list')
    assert.equal(withoutTag('anna+'), 'anna')
  })
})

describe('an address in a file', () => {
  it('has one form', () => {
    assert.equal(normalAddress('Anna@Example.ORG.'), 'anna@example.org')
    assert.equal(normalAddress('"Anna"@example.org'), 'anna@example.org')
    assert.equal(normalAddress('anna@bücher.example'), 'anna@xn--bcher-kva.example')
  })
  for (const text of [
    'anna',
    '@example.org',
    'anna@',
    'a b@example.org',
    '<anna@example.org>',
    'anna@[192.0.2.1]',
    '',
  ])
    it(`is not ${JSON.stringify(text)}`, () => assert.throws(() => normalAddress(text)))
})
