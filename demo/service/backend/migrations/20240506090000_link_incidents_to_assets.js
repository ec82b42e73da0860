exports.up = (knex) =>
  knex.schema.alterTable('incidents', (table) => {
    table.integer('asset_id').references('id').inTable('assets');
  });

exports.down = (knex) =>
  knex.schema.alterTable('incidents', (table) => {
    table.dropColumn('asset_id');
  });
