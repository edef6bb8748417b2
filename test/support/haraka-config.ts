// Haraka's own defaults in place of an operator's files, for what reads them as it is loaded. Imported first.
import { harakaHome } from './install'

process.env['HARAKA'] = harakaHome
