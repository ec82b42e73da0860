// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

exports.up = (knex) => knex.schema.createTable('visitors', (table) => table.string('name').notNullable());
exports.down = (knex) => knex.schema.dropTable('visitors');
