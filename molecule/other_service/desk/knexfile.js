// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

module.exports = {
  production: {
    client: 'better-sqlite3',
    connection: { filename: process.env.DESK_DATABASE },
    useNullAsDefault: true,
    migrations: { directory: `${__dirname}/migrations` },
    pool: {
      min: 1,
      max: 1,
      afterCreate(connection, done) {
        connection.pragma('journal_mode = WAL');
        connection.pragma('synchronous = FULL');
        done(null, connection);
      },
    },
  },
};
