// Queue plugins of others in config/plugins: what becomes of the mail that they would take.

/** Haraka's own that deliver whatever reaches them; those that refuse, discard or keep a copy go before us. */
export const STOCK_DELIVERY = [
  'queue/smtp_forward',
  'queue/smtp_proxy',
  'queue/lmtp',
  'queue/qmail-queue',
  'queue/deliver',
  'queue/test',
]
const DECIDES = ['queue/discard', 'queue/quarantine']
const IDLE = STOCK_DELIVERY.slice(2)

/** Sentences for the operator; `lines`: those of config/plugins; `pluginDomains`: some domain has `delivery = plugin`. */
export function queueWarnings(lines: readonly string[], pluginDomains: boolean): string[] {
  if (pluginDomains) return []
  const none = 'as no domain has delivery = plugin'
  const idle = lines.filter((line) => IDLE.includes(line))
  const others = lines.filter(
    (line) => /^queue[/-]/.test(line) && !STOCK_DELIVERY.includes(line) && !DECIDES.includes(line),
  )
  return [
    ...(idle.length > 0 ? [`config/plugins: ${idle.join(', ')} gets no mail, ${none}`] : []),
    ...(lines.includes('queue/smtp_forward')
      ? [
          `config/plugins: queue/smtp_forward gets no mail, ${none}; it only routes what is relayed to the domains in smtp_forward.ini; take the line out unless you want that`,
        ]
      : []),
    ...(lines.includes('queue/smtp_proxy')
      ? [
          `config/plugins: queue/smtp_proxy gets no mail, ${none}, but it asks its own host at MAIL, RCPT and DATA of every message, and what that host refuses is refused; take the line out`,
        ]
      : []),
    ...others.map(
      (line) =>
        `config/plugins: ${line} comes before relay-guard/domains at the queue, and may take mail that domains.ini sends elsewhere`,
    ),
  ]
}
