// Which plugin a line of config/plugins is to Haraka: asked of Haraka's own plugins.js.
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join, resolve } from 'node:path'
import { nearest } from '../core/ini/nearest'
import { packageDir } from '../core/paths'

/** The slice of Haraka's plugins.js that is used here. */
interface HarakaPlugins {
  Plugin: new (name: string) => { plugin_path?: string }
  /** Old names that Haraka replaces by itself. */
  deprecated: Record<string, string>
}

const NAMES = ['Haraka', 'haraka']

/** Haraka's own directory: beside its configuration, on PATH, or beside this package; undefined where it is nowhere. */
export function findHaraka(dir: string, path = process.env['PATH'] ?? ''): string | undefined {
  const local = NAMES.map((name) => resolve(dir, 'node_modules', name))
  const onPath = path.split(delimiter).flatMap((folder) => {
    const script = join(folder, 'haraka')
    return folder !== '' && existsSync(script) ? [dirname(dirname(realpathSync(script)))] : []
  })
  const near = (createRequire(join(packageDir, 'package.json')).resolve.paths('Haraka') ?? []).flatMap(
    (modules) => NAMES.map((name) => join(modules, name)),
  )
  return [...local, ...onPath, ...near].find((home) => existsSync(join(home, 'plugins.js')))
}

/**
 * One error a line that Haraka finds no plugin for, with the nearest name; undefined where `home`, what findHaraka
 * returned, cannot be asked. Haraka's directory must have been named by harakaAt before.
 */
export function unresolvedLines(
  lines: string[],
  dir: string,
  home: string | undefined,
): string[] | undefined {
  const plugins = home === undefined ? undefined : load(home)
  if (!plugins || home === undefined) return undefined
  const { Plugin, deprecated } = plugins
  const isThere = (line: string) =>
    new Plugin(Object.hasOwn(deprecated, line) ? deprecated[line]! : line).plugin_path !== undefined
  const lost = lines.filter((line) => !isThere(line))
  const known = lost.length > 0 ? knownPlugins(dir, home) : []
  return lost.map(
    (line) => `config/plugins ${line}: Haraka finds no plugin of this name${meant(line, known)}`,
  )
}

function load(home: string): HarakaPlugins | undefined {
  try {
    const plugins = createRequire(join(home, 'package.json'))('./plugins.js') as Partial<HarakaPlugins>
    return plugins.Plugin && plugins.deprecated ? (plugins as HarakaPlugins) : undefined
  } catch {
    return undefined
  }
}

function meant(line: string, known: string[]): string {
  if (/\s[#;]/.test(line)) return '; a comment must stand on a line of its own'
  if (line.startsWith('relay-guard/') && !known.some((name) => name.startsWith('relay-guard/')))
    return '; install this package in its directory: npm install haraka-plugin-relay-guard'
  const near = nearest(line, known)
  return near ? `; did you mean ${near}?` : ''
}

/** The names that Haraka would find: its own plugins, those of its directory, and packages. */
function knownPlugins(dir: string, home: string): string[] {
  const modules = [join(dir, 'node_modules'), join(home, 'node_modules'), dirname(home)]
  return [
    ...[dir, home].flatMap((base) => sourcesIn(join(base, 'plugins'))),
    ...modules.flatMap((folder) => entries(folder).flatMap((name) => packageLines(folder, name))),
  ]
}

const entries = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : [])

const sourcesIn = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.js'))
        .map((file) => file.replace(/\.js$/, ''))
    : []

/** A package is a plugin; one like this bundle holds several, a folder with a package.json each. */
function packageLines(folder: string, name: string): string[] {
  const line = /^haraka-plugin-(.+)$/.exec(name)?.[1]
  if (!line) return []
  const inside = entries(join(folder, name)).filter((each) =>
    existsSync(join(folder, name, each, 'package.json')),
  )
  return [line, ...inside.map((each) => `${line}/${each}`)]
}
