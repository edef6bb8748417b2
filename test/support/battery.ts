// The open-relay battery: the address forms that have made relays of mail servers, those that look like them and are
// fine, and what each kind of client is answered. Written from the contract, not from the plugins.
import { isHaraka32 } from './install'
import type { Kind } from './world'

/**
 * What becomes of one recipient.
 * - smtp, lmtp, internet: accepted, and arrives there.
 * - denied: 550 5.7.1.
 * - malformed: a 5xx, whoever says it; Haraka's parser is the first.
 * - open: the contract leaves it open; it must not reach the internet.
 */
export type Outcome = 'smtp' | 'lmtp' | 'internet' | 'denied' | 'malformed' | 'open'

export interface Form {
  /** As it stands after RCPT TO: or MAIL FROM:, brackets included. */
  path: string
  /** For those who may not relay. */
  others: Outcome
  /** For those who may. */
  relaying: Outcome
  /** How the recipient must read at the next hop; the path's address unless given. */
  arrives?: string
}

const form = (path: string, others: Outcome, relaying: Outcome = others, arrives?: string): Form => ({
  path,
  // Haraka 3.2 itself refuses it.
  ...(isHaraka32 && /\s/.test(path) ? { others: 'malformed', relaying: 'malformed' } : { others, relaying }),
  ...(arrives !== undefined && { arrives }),
})

const legitimate: Form[] = [
  form('<anna@alpha.test>', 'smtp'),
  form('<ANNA@ALPHA.TEST>', 'smtp'),
  form('<anna+tag@alpha.test>', 'smtp'),
  form('<bounce+v=victim.example@alpha.test>', 'smtp'),
  form('<SRS0=abcd=XY=victim.example=v@alpha.test>', 'smtp'),
  form('<"john doe"@alpha.test>', 'smtp'),
  form('<"john.doe"@alpha.test>', 'smtp', 'smtp'),
  form("<o'hara@alpha.test>", 'smtp'),
  form('<anna=work@alpha.test>', 'smtp'),
  form('<postmaster>', 'smtp', 'smtp', 'postmaster@alpha.test'),
  form('<Postmaster>', 'smtp', 'smtp', 'postmaster@alpha.test'),
  form('<postmaster@alpha.test>', 'smtp'),
  form('<anna@sub.alpha.test>', 'smtp'),
  form('<anna@deep.sub.alpha.test>', 'smtp'),
  form('<anna@beta.test>', 'smtp'),
  form('<anna@gamma.test>', 'lmtp'),
  form('<anna@Gamma.Test>', 'lmtp'),
  form('<anna@xn--bcher-kva.test>', 'smtp'),
  form('<anna@XN--BCHER-KVA.test>', 'smtp'),
]

const foreign: Form[] = [
  form('<v@victim.example>', 'denied', 'internet'),
  form('v@victim.example', 'denied', 'internet'),
  form('<V@VICTIM.EXAMPLE>', 'denied', 'internet'),
  form('<"v"@victim.example>', 'denied', 'internet'),
  form('<v@localhost>', 'denied', 'internet'),
  form('<v@mx.local.test>', 'denied', 'internet'),
  form('<v@test>', 'denied', 'open'),
  form('<v@notalpha.test>', 'denied', 'internet'),
  form('<v@alpha.test.victim.example>', 'denied', 'internet'),
  form('<v@sub.gamma.test>', 'denied', 'internet'),
  form('<v@sub.beta.test>', 'denied', 'internet'),
  form('<v@main>', 'denied', 'open'),
  form('<v@constructor>', 'denied', 'open'),
  form('<v@listed.test>', 'denied', 'internet'),
  form('<v@partner.example>', 'denied', 'internet'),
  form('<postmaster@victim.example>', 'denied', 'internet'),
  form('<SRS0=abcd=XY=alpha.test=v@victim.example>', 'denied', 'internet'),
  form('<v%alpha.test@victim.example>', 'denied', 'internet'),
  form('<v@[127.0.0.1]>', 'denied', 'open'),
  form('<v@[192.0.2.1]>', 'denied', 'open'),
  form('<v@[IPv6:2001:db8::1]>', 'denied', 'open'),
]

const wrapped: Form[] = [
  form('<v%victim.example@alpha.test>', 'denied', 'smtp'),
  form('<v%victim.example%third.example@alpha.test>', 'denied', 'smtp'),
  form('<v%victim.example@sub.alpha.test>', 'denied', 'smtp'),
  form('<v%victim.example@gamma.test>', 'denied', 'lmtp'),
  form('<v%victim.example@[127.0.0.1]>', 'denied', 'open'),
  form('<"v%victim.example"@alpha.test>', 'denied', 'smtp'),
  form('<"v@victim.example"@alpha.test>', 'denied', 'smtp'),
  form('<"v@victim.example"@gamma.test>', 'denied', 'lmtp'),
  form('<"a@x.example, v@victim.example"@alpha.test>', 'denied', 'smtp'),
  form('<"v,w"@alpha.test>', 'denied', 'smtp'),
  form('<"v\\@victim.example"@alpha.test>', 'denied', 'smtp'),
  form('<"v\\%victim.example"@alpha.test>', 'denied', 'smtp'),
  form('<victim.example!v@alpha.test>', 'denied', 'smtp'),
  form('<"victim.example!v"@alpha.test>', 'denied', 'smtp'),
  form('<victim.example!v@[127.0.0.1]>', 'denied', 'open'),
  form('<@alpha.test:v@victim.example>', 'denied'),
  form('<@victim.example:anna@alpha.test>', 'denied'),
  form('<@a.example,@b.example:anna@alpha.test>', 'denied'),
  form('<@alpha.test,@b.example:v@victim.example>', 'denied'),
  form('<IMCEASMTP-v+40victim+2Eexample@alpha.test>', 'denied'),
  form('<imceasmtp-v+40victim+2eexample@alpha.test>', 'denied'),
  form('<IMCEASMTP-v+40victim+2Eexample@gamma.test>', 'denied'),
  form('<IMCEAEX-_O=ORG_CN=v@alpha.test>', 'denied'),
  form('<"IMCEASMTP-v+40victim+2Eexample"@alpha.test>', 'denied'),
  form('<"IMCEA v@victim.example"@alpha.test>', 'denied', 'open'),
]

const malformed: Form[] = [
  form('<v%victim.example>', 'malformed'),
  form('<"v@victim.example">', 'malformed'),
  form('<"v%victim.example">', 'malformed'),
  form('<victim.example!v>', 'malformed'),
  form('<anna>', 'malformed'),
  form('<>', 'malformed'),
  form('<v@victim.example@alpha.test>', 'malformed'),
  form('<anna@alpha.test@victim.example>', 'malformed'),
  form('<v@victim.example@[127.0.0.1]>', 'malformed'),
  form('<@[127.0.0.1]:v@victim.example>', 'malformed'),
  form('<anna@alpha.test,v@victim.example>', 'malformed'),
  form('<anna@alpha.test> <v@victim.example>', 'malformed'),
  form('<v@victim.example%alpha.test>', 'malformed', 'open'),
  form('<v@127.0.0.1>', 'malformed', 'open'),
  form('<v@alpha.test;victim.example>', 'malformed'),
  form('<v@victim.example\0@alpha.test>', 'malformed'),
]

export const recipientForms: Form[] = [...legitimate, ...foreign, ...wrapped, ...malformed]

/** What becomes of mail from this sender, when its recipient is <anna@alpha.test>. */
export interface SenderForm {
  path: string
  /** stranger and never */
  others: Outcome
  /** [relay] */
  relay: Outcome
  /** Logged in as ann@alpha.test, wherever from. */
  user: Outcome
}

const sender = (path: string, others: Outcome, relay: Outcome, user: Outcome): SenderForm => ({
  path,
  others,
  relay,
  user,
})

export const senderForms: SenderForm[] = [
  sender('<>', 'smtp', 'smtp', 'smtp'),
  sender('<a@evil.example>', 'smtp', 'smtp', 'denied'),
  sender('<ann@alpha.test>', 'denied', 'smtp', 'smtp'),
  sender('<ANN@Alpha.Test>', 'denied', 'smtp', 'smtp'),
  sender('<ann+tag@alpha.test>', 'denied', 'smtp', 'smtp'),
  sender('<ceo@alpha.test>', 'denied', 'smtp', 'denied'),
  sender('<ann@sub.alpha.test>', 'denied', 'smtp', 'denied'),
  sender('<ann@gamma.test>', 'denied', 'smtp', 'denied'),
  sender('<ann@sub.gamma.test>', 'smtp', 'smtp', 'denied'),
  sender('<ann@notalpha.test>', 'smtp', 'smtp', 'denied'),
  sender('<postmaster@alpha.test>', 'denied', 'smtp', 'denied'),
  sender('<ann@xn--bcher-kva.test>', 'denied', 'smtp', 'denied'),
  sender('<ann@localhost>', 'smtp', 'smtp', 'denied'),
  sender('<"ann@alpha.test"@evil.example>', 'smtp', 'smtp', 'denied'),
  sender('<"ann"@alpha.test>', 'denied', 'smtp', 'open'),
  sender('<@alpha.test:a@evil.example>', 'open', 'open', 'denied'),
  sender('<spamtest>', 'malformed', 'malformed', 'malformed'),
  sender('<ann@alpha.test@evil.example>', 'malformed', 'malformed', 'malformed'),
]

/** A sender that this kind of client may use. */
export const ownSender = (kind: Kind): string =>
  kind === 'user' || kind === 'user over TLS' || kind === 'never, logged in'
    ? '<ann@alpha.test>'
    : '<a@evil.example>'
