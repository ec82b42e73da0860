// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

const path = require('node:path');

function section(filename) {
  return {
    client: 'better-sqlite3',
    connection: { filename: path.resolve(__dirname, filename) },
    useNullAsDefault: true,
    migrations: { directory: path.join(__dirname, 'backend', 'migrations') },
    pool: {
      // Only one connection, because SQLite allows only one writer. It stays open while the service runs.
      min: 1,
      max: 1,
      afterCreate(connection, done) {
        connection.pragma('journal_mode = WAL');
        // When the service responds to a request, the data is already on disk, not only in the kernel's cache.
        connection.pragma('synchronous = FULL');
        connection.pragma('foreign_keys = ON');
        done(null, connection);
      },
    },
  };
}

module.exports = {
  // If NODE_ENV is not set, the knex command uses this section. The service itself uses a different database.
  development: section('backend/itsm_dev.db'),
  production: section(process.env.DATABASE_PATH || 'backend/itsm_nexus.db'),
};
